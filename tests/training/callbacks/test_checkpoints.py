import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from sciembed_train.errors import UserError
from sciembed_train.training.callbacks.checkpoints import RunCheckpoints, higher_is_better
from sciembed_train.training.callbacks.signals import Interrupted, Signals

METHOD = SimpleNamespace(device=torch.device("cpu"))


class Saving:
    """A trainer that notes what is saved."""

    sanity_checking = False
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    max_steps = 100
    should_stop = False
    enable_validation = False
    val_check_batch = 10

    def __init__(self):
        self.global_step, self.saved, self.callback_metrics = 0, [], {}

    def save_checkpoint(self, path):
        self.saved.append(path.name)


@pytest.fixture
def trainer():
    return Saving()


def validated(callback, trainer, score):
    trainer.callback_metrics = {"val/loss": torch.tensor(score)}
    trainer.saved.clear()
    callback.on_validation_end(trainer, METHOD)
    return trainer.saved


def test_losses_improve_downwards():
    assert not higher_is_better("val/loss")
    assert not higher_is_better("val/fos_loss")
    assert higher_is_better("val/map")


def test_the_best_is_saved_before_the_last_and_nan_never_is(trainer, tmp_path):
    callback = RunCheckpoints(tmp_path, "val/loss", 5, Signals())
    assert validated(callback, trainer, math.nan) == ["last.ckpt"]
    assert validated(callback, trainer, 0.5) == ["best.ckpt", "last.ckpt"]
    assert validated(callback, trainer, 0.7) == ["last.ckpt"]
    assert validated(callback, trainer, 0.4) == ["best.ckpt", "last.ckpt"]


def test_a_continued_run_keeps_the_best_score_wherever_its_folder_is(trainer, tmp_path):
    before = RunCheckpoints(tmp_path / "a", "val/loss", 5, Signals())
    validated(before, trainer, 0.3)
    after = RunCheckpoints(tmp_path / "b", "val/loss", 5, Signals())
    after.load_state_dict(before.state_dict())
    assert validated(after, trainer, 0.4) == ["last.ckpt"]
    other = RunCheckpoints(tmp_path, "val/map", 5, Signals())
    other.load_state_dict(before.state_dict())
    assert other.best is None


def test_an_unknown_monitor_is_refused(trainer, tmp_path):
    callback = RunCheckpoints(tmp_path, "val/ndcg", 5, Signals())
    with pytest.raises(UserError, match=r"checkpoint\.monitor is val/ndcg; .* val/loss"):
        validated(callback, trainer, 0.1)


def test_last_is_saved_at_the_interval_at_the_end_and_at_a_signal(trainer, tmp_path):
    signals = Signals()
    callback = RunCheckpoints(tmp_path, "val/loss", 5, signals)
    for step in range(1, 12):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, METHOD, {}, None, step)
    assert trainer.saved == ["last.ckpt"] * 2
    signals.agreed = 15
    with pytest.raises(Interrupted) as ended:
        callback.on_train_batch_end(trainer, METHOD, {}, None, 11)
    assert (ended.value.number, ended.value.step) == (15, 11)
    assert len(trainer.saved) == 3
    signals.agreed, trainer.global_step = 0, trainer.max_steps
    callback.on_train_batch_end(trainer, METHOD, {}, None, 99)
    assert trainer.should_stop
    assert len(trainer.saved) == 4
