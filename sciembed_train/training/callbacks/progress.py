"""What a run prints while it trains: a bar, or a line at an interval; the scores of validations."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.progress import print_line
from sciembed_train.training.callbacks.step_metrics import StepMetrics


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
    """A line at an interval, where there is no terminal for a bar."""

    def __init__(self, metrics: StepMetrics, seconds: float = 30.0) -> None:
        self.metrics, self.seconds, self._last = metrics, seconds, time.monotonic()

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the step, the loss and the speed."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            line = f"step {trainer.global_step:,} of {trainer.max_steps:,}"
            if progress := self.metrics.progress:
                line += f", loss {progress['loss']:.3f}, {progress['tokens/s']:,.0f} tokens/s"
            print_line(line)


class ValidationLines(Callback):
    """The scores of each validation, on one line."""

    def __init__(self, bar: Bar | None = None) -> None:
        self.bar = bar

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print them."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        scores = [
            f"{name.removeprefix('val/')} {value.item():.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("val/")
        ]
        line = f"step {trainer.global_step:,}, validation: {', '.join(scores)}"
        if self.bar is None:
            print_line(line)
        else:
            self.bar.print(line)
