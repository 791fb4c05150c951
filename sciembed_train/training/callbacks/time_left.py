"""How long the rest of a run takes, measured on its own steps and validations."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

STEPS = 100  # of which the time of a step is the mean


class TimeLeft(Callback):
    """Measures steps, with the wait for their data, and validations.

    The first step of a process is left out where there are others: it fills caches and compiles.
    """

    def __init__(self) -> None:
        self.steps: deque[float] = deque(maxlen=STEPS)
        self.validations: list[float] = []
        self._first: float | None = None
        self._since: float | None = None
        self._paused = 0.0

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step; None before the first."""
        return sum(self.steps) / len(self.steps) if self.steps else self._first

    @property
    def validation_seconds(self) -> float | None:
        """Seconds of a validation; None before the first."""
        return sum(self.validations) / len(self.validations) if self.validations else None

    def seconds(self, trainer: Trainer) -> float | None:
        """Seconds that the rest of the training takes; None before the first step."""
        if self.step_seconds is None:
            return None
        steps = trainer.max_steps - trainer.global_step
        validations = validations_left(trainer) * (self.validation_seconds or 0.0)
        return steps * self.step_seconds + validations

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start at the first step."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time since the last step."""
        assert self._since is not None
        now = time.perf_counter()
        if self._first is None:
            self._first = now - self._since
        else:
            self.steps.append(now - self._since)
        self._since = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the time of the validation, and continue."""
        self.validations.append(time.perf_counter() - self._paused)
        if self._since is not None:
            self._since += self.validations[-1]


def validations_left(trainer: Trainer) -> int:
    """Validations that a run still makes: at each interval, and at its end."""
    if not trainer.enable_validation:
        return 0
    assert trainer.val_check_batch is not None
    interval = int(trainer.val_check_batch)
    at_intervals = trainer.max_steps // interval - trainer.global_step // interval
    at_the_end = trainer.max_steps % interval != 0 and trainer.global_step < trainer.max_steps
    return at_intervals + at_the_end
