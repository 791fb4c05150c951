"""``last.ckpt`` and ``best.ckpt`` of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from sciembed_train.errors import UserError
from sciembed_train.training.callbacks.signals import Interrupted, Signals


def higher_is_better(monitor: str) -> bool:
    """Whether a validation score improves upwards: all do but losses."""
    return not monitor.rsplit("/", 1)[-1].endswith("loss")


class RunCheckpoints(Checkpoint):
    """``last.ckpt`` at an interval and after each validation, ``best.ckpt`` by one score.

    At a step with a validation the checkpoint is written after that. Where a signal asks for it,
    the run ends once it is saved. Files are written by the trainer's `RunCheckpointIO`.

    Lightning's ``ModelCheckpoint`` forgets the best score of a run whose folder was moved, takes
    nan for the first best, and saves neither the last step, nor the step at which a signal
    arrives, nor in the order best, last, so that ``last.ckpt`` would not know of the best score.
    """

    def __init__(self, folder: Path, monitor: str, every: int, signals: Signals) -> None:
        super().__init__()
        self.folder, self.monitor, self.every, self.signals = folder, monitor, every, signals
        self.best: float | None = None
        self.best_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"monitor": self.monitor, "best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score, unless the monitor is another one now."""
        if state_dict["monitor"] == self.monitor:
            self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time; end the run if a signal asks for it."""
        step, agreed = trainer.global_step, self.signals.agreed
        last = step >= trainer.max_steps
        if last:  # a run whose length is no multiple of the interval ends with a validation too
            trainer.should_stop = True
        ends = trainer.should_stop  # also by trainer.max_time, or by a callback of the user's
        interval = trainer.val_check_batch
        assert interval is not None
        if trainer.enable_validation and (ends or step % int(interval) == 0):
            if agreed:  # whoever sent the signal may not wait for a validation
                self._save_last(trainer)
            return
        if ends or agreed or step % self.every == 0:
            self._save_last(trainer)
        if agreed and not last:
            raise Interrupted(agreed, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best, then the last; end the run if a signal asks. UserError: no such score."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            known = sorted(k for k in trainer.callback_metrics if k.startswith("val/"))
            raise UserError(
                f"checkpoint.monitor is {self.monitor}; this run's scores are {', '.join(known)}."
            )
        step = trainer.global_step
        if self._improves(score.item()):
            self.best, self.best_step = score.item(), step
            trainer.save_checkpoint(self.folder / "best.ckpt")
        self._save_last(trainer)
        agreed = self.signals.agreed_after_validation(pl_module.device)
        if agreed and step < trainer.max_steps:
            raise Interrupted(agreed, step)

    def _save_last(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt")

    def _improves(self, score: float) -> bool:
        if not math.isfinite(score) or self.best is None:
            return math.isfinite(score)
        return score > self.best if higher_is_better(self.monitor) else score < self.best
