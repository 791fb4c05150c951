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


def validate(method, dev, sanity_checking=False):
    rows = {}
    logger = SimpleNamespace(log_metrics=lambda metrics, step: rows.__setitem__(step, metrics))
    trainer = SimpleNamespace(sanity_checking=sanity_checking, loggers=[logger], global_step=9)
    callback = HeldOutScores(dev)
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


def test_without_held_out_examples_there_is_no_score(method):
    assert validate(method, dev=[]) == {}
    assert method.logged == {}
