"""What a run prints while it trains: a bar, or a line at an interval; the scores of validations."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.progress import duration, print_line
from sciembed_train.training.callbacks.step_metrics import StepMetrics
from sciembed_train.training.callbacks.time_left import TimeLeft, validations_left
from sciembed_train.training.callbacks.validation import HeldOutScores


class Bar(TQDMProgressBar):
    """One bar for the whole run, with the loss."""

    def __init__(self, metrics: StepMetrics) -> None:
        super().__init__()
        self.metrics = metrics

    def init_train_tqdm(self) -> Tqdm:
        """The bar of training."""
        bar = super().init_train_tqdm()
        bar.fp = sys.stderr
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Count the steps of the run, also those before a resume."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.initial = trainer.global_step
        self.train_progress_bar.set_description("training")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The values behind the bar."""
        return {
            name: f"{value:{',.0f' if value >= 100 else '.3f'}}"
            for name, value in self.metrics.progress.items()
        }


class ProgressLines(Callback):
    """A line at an interval, where there is no terminal for a bar.

    Args:
        metrics: of the steps.
        held_out: scores of the validations.
        monitor: the score that is shown beside that of the start.
        time_left: measures how long the rest takes.
        seconds: between two lines.
    """

    def __init__(
        self,
        metrics: StepMetrics,
        held_out: HeldOutScores,
        monitor: str,
        time_left: TimeLeft,
        seconds: float = 30.0,
    ) -> None:
        self.metrics, self.held_out, self.monitor = metrics, held_out, monitor
        self.time_left = time_left
        self.seconds, self._last = seconds, time.monotonic()

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the step, its loss, the speed, the time left, and the start's score."""
        if time.monotonic() - self._last < self.seconds:
            return
        self._last = time.monotonic()
        parts = [f"step {trainer.global_step:,} of {trainer.max_steps:,}"]
        if (loss := self.metrics.loss) is not None:
            parts.append(f"loss {loss:.3f}")
        if self.metrics.progress:
            parts.append(f"{self.metrics.progress['tokens/s']:,.0f} tokens/s")
        if (left := self.time_left.seconds(trainer)) is not None:
            parts.append(f"{duration(left)} left")
        score, start = self.held_out.latest.get(self.monitor), self.held_out.start
        if score is not None:
            parts.append(f"{self.monitor} {score:.4f}{beside_start(start, self.monitor)}")
        print_line(", ".join(parts))


class DurationLine(Callback):
    """How long the run takes, on one line, once a few steps have been made.

    Args:
        time_left: measures it.
        bar: above which the line is printed.
        after: steps of this process.
    """

    def __init__(self, time_left: TimeLeft, bar: Bar | None = None, after: int = 5) -> None:
        self.time_left, self.bar, self.after = time_left, bar, after
        self._made = 0

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print it."""
        self._made += 1
        steps = trainer.max_steps - trainer.global_step
        if self._made != self.after or not steps:
            return
        left, step = self.time_left.seconds(trainer), self.time_left.step_seconds
        assert left is not None
        assert step is not None
        line = f"about {duration(left)} for the {steps:,} steps left, at {step:.2g} s a step"
        if validations := validations_left(trainer):
            each = self.time_left.validation_seconds
            taking = "" if each is None else f" of {duration(each)}"
            plural = "" if validations == 1 else "s"
            line += f", with {validations:,} validation{plural}{taking}"
        _print(line, self.bar)


class ValidationLines(Callback):
    """The scores of each validation, on one line, the monitored one beside that of the start.

    Args:
        held_out: that has the scores.
        monitor: the score that chooses the best checkpoint.
        bar: above which the line is printed.
    """

    def __init__(self, held_out: HeldOutScores, monitor: str, bar: Bar | None = None) -> None:
        self.held_out, self.monitor, self.bar = held_out, monitor, bar

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print them."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        start = None if trainer.sanity_checking else self.held_out.start
        scores = [
            f"{name.removeprefix('val/')} {value.item():.4f}"
            + (beside_start(start, name) if name == self.monitor else "")
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("val/")
        ]
        _print(f"step {trainer.global_step:,}, validation: {', '.join(scores)}", self.bar)


def beside_start(start: Mapping[str, float] | None, name: str) -> str:
    """The score before the first step in brackets; empty where there is none."""
    return "" if start is None or name not in start else f" (start {start[name]:.4f})"


def _print(line: str, bar: Bar | None) -> None:
    if bar is None:
        print_line(line)
    else:
        bar.print(line)
