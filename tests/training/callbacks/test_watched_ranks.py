from types import SimpleNamespace

from sciembed_train.training.callbacks.signals import Interrupted
from sciembed_train.training.callbacks.watched_ranks import RankErrors, RankSteps


class Watch:
    """Takes down what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *values: self.told.append((name, *values))


def test_steps_are_told_with_how_many_are_made():
    watch, trainer = Watch(), SimpleNamespace(global_step=4)
    steps = RankSteps(watch)
    steps.setup(trainer, None, "fit")
    steps.on_train_batch_start(trainer, None, None, 0)
    trainer.global_step = 5
    steps.on_train_batch_end(trainer, None, None, None, 0)
    steps.on_train_end(trainer, None)
    assert watch.told == [("start",), ("step_began", 4), ("step_ended", 5), ("stop",)]


def test_errors_are_told_and_signals_of_which_all_know_are_not():
    watch, error = Watch(), ValueError("x")
    callback = RankErrors(watch)
    callback.on_exception(None, None, Interrupted(15, 3))
    callback.on_exception(None, None, error)
    assert watch.told == [("failed", error)]
