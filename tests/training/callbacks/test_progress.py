from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from sciembed_train.training.callbacks.progress import (
    DurationLine,
    ProgressLines,
    ValidationLines,
)
from sciembed_train.training.callbacks.validation import HeldOutScores


@pytest.fixture
def trainer():
    return SimpleNamespace(
        global_step=1200,
        max_steps=5000,
        sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        callback_metrics={"val/map": torch.tensor(0.25), "val/loss": torch.tensor(0.5), "x": 1},
    )


def test_a_line_is_printed_at_the_interval(trainer, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    metrics, held_out = SimpleNamespace(progress={}, loss=None), HeldOutScores([])
    time_left = SimpleNamespace(seconds=lambda trainer: None)
    lines = ProgressLines(metrics, held_out, "val/map", time_left, seconds=30.0)

    def after(seconds):
        now[0] += seconds
        lines.on_train_batch_end(trainer, None, None, None, 0)
        return capsys.readouterr().err

    assert after(29) == ""
    assert after(1) == "step 1,200 of 5,000\n"
    assert after(29) == ""
    metrics.progress, metrics.loss = {"loss": 0.1234, "tokens/s": 9876.0}, 0.4567
    time_left.seconds = lambda trainer: 60.0 * (5000 - trainer.global_step) / 100
    # The loss of the step, not the last one that was logged.
    assert after(1) == "step 1,200 of 5,000, loss 0.457, 9,876 tokens/s, 38 min left\n"
    held_out.start, held_out.latest = {"val/map": 0.31, "val/loss": 1.0}, {"val/map": 0.31}
    assert after(30).endswith("38 min left, val/map 0.3100 (start 0.3100)\n")
    held_out.latest = {"val/map": 0.35}
    assert after(30).endswith(", val/map 0.3500 (start 0.3100)\n")
    held_out.start = None  # a run without a validation before its first step
    assert after(30).endswith(", val/map 0.3500\n")


def test_how_long_the_run_takes_is_said_once_after_a_few_steps(trainer, capsys):
    trainer.enable_validation, trainer.val_check_batch = True, 2000
    time_left = SimpleNamespace(
        seconds=lambda _: 7200.0, step_seconds=1.234, validation_seconds=None
    )
    line = DurationLine(time_left, after=3)

    def after_a_step():
        line.on_train_batch_end(trainer, None, None, None, 0)
        return capsys.readouterr().err

    assert after_a_step() + after_a_step() == ""
    expected = "about 2.0 h for the 3,800 steps left, at 1.2 s a step, with 3 validations\n"
    assert after_a_step() == expected
    assert after_a_step() == ""
    line, time_left.validation_seconds = DurationLine(time_left, after=1), 45.0
    assert after_a_step().endswith(", with 3 validations of 45 s\n")
    trainer.global_step, line = 5000, DurationLine(time_left, after=1)
    assert after_a_step() == ""


def test_scores_of_a_validation_are_one_line(trainer, capsys):
    held_out = HeldOutScores([])
    lines = ValidationLines(held_out, "val/map")
    lines.on_validation_end(trainer, None)
    said = capsys.readouterr().err
    assert said == "step 1,200, validation: loss 0.5000, map 0.2500\n"
    held_out.start = {"val/map": 0.2, "val/loss": 0.7}
    lines.on_validation_end(trainer, None)
    said = capsys.readouterr().err
    assert said == "step 1,200, validation: loss 0.5000, map 0.2500 (start 0.2000)\n"
    trainer.sanity_checking, trainer.global_step = True, 0
    lines.on_validation_end(trainer, None)
    assert capsys.readouterr().err == "step 0, validation: loss 0.5000, map 0.2500\n"
    trainer.state.fn = TrainerFn.VALIDATING
    lines.on_validation_end(trainer, None)
    assert capsys.readouterr().err == ""
