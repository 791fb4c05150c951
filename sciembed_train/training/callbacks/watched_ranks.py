"""Tell the watch of the ranks what this one does, and why it ends."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train.training.callbacks.signals import Interrupted
from sciembed_train.training.rank_watch import RankWatch


class RankSteps(Callback):
    """Begins the watch when the ranks are connected, and ends it with the training.

    It comes after the callbacks that exchange something when a step has ended, since ranks wait
    for one another there, and before those that save.
    """

    def __init__(self, watch: RankWatch) -> None:
        self.watch = watch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks are connected."""
        self.watch.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A step begins."""
        self.watch.step_began(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step has ended."""
        self.watch.step_ended(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All steps are made."""
        self.watch.stop()


class RankErrors(Callback):
    """Tells the watch of an error, before any other callback acts on it.

    Where this rank has lost another, a launcher may end it any moment; `callbacks.signals` holds
    SIGTERM up until then.
    """

    def __init__(self, watch: RankWatch) -> None:
        self.watch = watch

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """This rank ends."""
        if not isinstance(exception, Interrupted):  # of which all ranks know
            self.watch.failed(exception)
