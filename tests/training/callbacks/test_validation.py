from types import SimpleNamespace

import pytest
import torch

from sciembed_train.training.callbacks.validation import HeldOutScores
from tests.helpers.exports import encoder_of


class Kept:
    """What a method keeps of a validation."""

    def __init__(self):
        self.cleared = 0

    def clear(self):
        self.cleared += 1

    def scores(self, dev, device):
        return {"loss": 0.5, "map": 0.25}


@pytest.fixture
def method(tiny_bert):
    logged = {}
    return SimpleNamespace(
        held_out=Kept(),
        encoder=encoder_of(tiny_bert),
        device=torch.device("cpu"),
        logged=logged,
        log=lambda name, value, **_: logged.__setitem__(name, value.item()),
    )


def validate(method, dev, sanity_checking=False, benchmarks=None):
    rows = {}
    logger = SimpleNamespace(log_metrics=lambda metrics, step: rows.__setitem__(step, metrics))
    trainer = SimpleNamespace(
        sanity_checking=sanity_checking, loggers=[logger], global_step=9, precision="bf16-mixed"
    )
    callback = HeldOutScores(dev, benchmarks)
    callback.on_validation_epoch_start(trainer, method)
    callback.on_validation_epoch_end(trainer, method)
    return rows


def test_scores_are_logged_by_their_names_and_nothing_is_kept(method):
    expected = {"val/loss": 0.5, "val/map": 0.25}
    assert validate(method, dev=[1]) == {9: expected}
    assert method.logged == expected
    assert method.held_out.cleared == 2


def test_the_check_before_the_first_step_leaves_no_row(method):
    assert validate(method, dev=[1], sanity_checking=True) == {}


def test_the_scores_before_the_first_step_are_kept_with_the_run(method):
    trainer = SimpleNamespace(sanity_checking=True, loggers=[], global_step=0)
    callback = HeldOutScores([1])
    assert callback.start is None
    callback.on_validation_epoch_start(trainer, method)
    callback.on_validation_epoch_end(trainer, method)
    expected = {"val/loss": 0.5, "val/map": 0.25}
    assert callback.start == callback.latest == expected
    trainer.sanity_checking = False
    method.held_out.scores = lambda dev, device: {"loss": 0.25, "map": 0.75}
    callback.on_validation_epoch_start(trainer, method)
    callback.on_validation_epoch_end(trainer, method)
    assert callback.start == expected
    assert callback.latest == {"val/loss": 0.25, "val/map": 0.75}
    continued = HeldOutScores([1])
    continued.load_state_dict(callback.state_dict())
    assert continued.start == expected


def test_without_held_out_examples_there_is_no_score(method):
    assert validate(method, dev=[]) == {}
    assert method.logged == {}


class Benchmarks:
    """Scores that depend on the precision."""

    def scores(self, method, precision):
        assert not method.encoder.training
        return {"val/citations/map": {"bf16": 0.125}[precision]}


def test_benchmarks_are_logged_beside_the_held_out_examples_or_alone(method):
    method.encoder.eval()
    expected = {"val/loss": 0.5, "val/map": 0.25, "val/citations/map": 0.125}
    assert validate(method, dev=[1], benchmarks=Benchmarks()) == {9: expected}
    assert method.logged == expected
    assert validate(method, dev=[], benchmarks=Benchmarks()) == {9: {"val/citations/map": 0.125}}
