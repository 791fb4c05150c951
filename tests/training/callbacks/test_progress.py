from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from sciembed_train.training.callbacks.progress import ProgressLines, ValidationLines


@pytest.fixture
def trainer():
    return SimpleNamespace(
        global_step=1200,
        max_steps=5000,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        callback_metrics={"val/map": torch.tensor(0.25), "val/loss": torch.tensor(0.5), "x": 1},
    )


def test_a_line_is_printed_at_the_interval(trainer, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    metrics = SimpleNamespace(progress={})
    lines = ProgressLines(metrics, seconds=30.0)

    def after(seconds):
        now[0] += seconds
        lines.on_train_batch_end(trainer, None, None, None, 0)
        return capsys.readouterr().err

    assert after(29) == ""
    assert after(1).startswith("step 1,200 of 5,000")
    assert after(29) == ""
    metrics.progress = {"loss": 0.1234, "tokens/s": 9876.0}
    assert "loss 0.123, 9,876 tokens/s" in after(1)


def test_scores_of_a_validation_are_one_line(trainer, capsys):
    ValidationLines().on_validation_end(trainer, None)
    said = capsys.readouterr().err
    assert said == "step 1,200, validation: loss 0.5000, map 0.2500\n"
    trainer.state.fn = TrainerFn.VALIDATING
    ValidationLines().on_validation_end(trainer, None)
    assert capsys.readouterr().err == ""
