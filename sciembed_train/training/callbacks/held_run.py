"""A run that another process has taken over ends and writes nothing more."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train.training.run_lock import RunLock


class HeldRun(Callback):
    """Sees that the run's lock is still this process's: every heartbeat, and before each save.

    That it is another's happens to a process that was stopped, or was cut off from the file
    system, for longer than a lock lives without heartbeat. On ranks but the first, which hold no
    lock, nothing is done.
    """

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock
        self._seen = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, if the last look is a heartbeat ago."""
        if time.monotonic() - self._seen >= self.lock.heartbeat:
            self.lock.check()
            self._seen = time.monotonic()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before the file is written."""
        self.lock.check()
