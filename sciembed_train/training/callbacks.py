"""What happens around the steps of a run: checkpoints, signals, and a word now and then."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train import distributed
from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.training.run_folder import MetricsCsv


class Interrupted(BaseException):
    """A signal asked the run to end, and it has been saved.

    Args:
        number: the signal.
        step: optimiser steps made.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"signal {number} at step {step}")
        self.number, self.step = number, step


def higher_is_better(monitor: str) -> bool:
    """Whether a validation score improves upwards: all do but losses."""
    return not monitor.rsplit("/", 1)[-1].endswith("loss")


class RunCheckpoints(Checkpoint):
    """``last.ckpt`` every so often and after each validation, ``best.ckpt`` by one score.

    A checkpoint is written to another name first and then renamed, so that a killed run leaves
    the one before it. At a step with a validation the checkpoint is written after that.

    Args:
        folder: of the run.
        monitor: the validation score.
        every: optimiser steps between two ``last.ckpt``.
    """

    def __init__(self, folder: Path, monitor: str, every: int) -> None:
        super().__init__()
        self.folder, self.monitor, self.every = folder, monitor, every
        self.best: float | None = None
        self.best_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"monitor": self.monitor, "best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score, unless another one is asked for now."""
        if state_dict["monitor"] == self.monitor:
            self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring ``metrics.csv`` back to the step of the checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.keep_until(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, leave where a signal asks for it."""
        step, method = trainer.global_step, cast(Method, pl_module)
        last = step >= trainer.max_steps
        if last:  # a run whose length is no multiple of the interval ends with a validation too
            trainer.should_stop = True
        ends = trainer.should_stop  # also by trainer.max_time, or by a callback of the user's
        interval = trainer.val_check_batch
        assert interval is not None
        if trainer.enable_validation and (ends or step % int(interval) == 0):
            if method.stop_agreed:  # whoever sent the signal may not wait for a validation
                trainer.save_checkpoint(self.folder / "last.ckpt")
            return
        if ends or method.stop_agreed or step % self.every == 0:
            trainer.save_checkpoint(self.folder / "last.ckpt")
        if method.stop_agreed and not last:
            raise Interrupted(method.stop_agreed, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best, then the last; leave where a signal asks for it.

        Raises:
            UserError: there is no such score.
        """
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
        trainer.save_checkpoint(self.folder / "last.ckpt")
        method = cast(Method, pl_module)
        mine = torch.tensor(float(method.stop_signal), device=method.device)
        if distributed.sum_over_ranks(mine).item() and step < trainer.max_steps:
            raise Interrupted(method.stop_signal or method.stop_agreed or signal.SIGTERM, step)

    def _improves(self, score: float) -> bool:
        if math.isnan(score) or self.best is None:
            return not math.isnan(score)
        return score > self.best if higher_is_better(self.monitor) else score < self.best


def say(text: str) -> None:
    """Print a line about the run; a reader that has gone away is no reason to lose the run."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


class Signals(Callback):
    """SIGINT and SIGTERM end the run after the step that is being made; a second one at once.

    Lightning's own handler of SIGTERM calls a collective from inside the signal handler, which
    can meet another collective half done. Here the handler only takes a note, and the ranks
    agree on it in the sum they make after each step anyway.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over, after Lightning has; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        method = cast(Method, pl_module)

        def take_note(number: int, frame: FrameType | None) -> None:
            if method.stop_signal:
                self._give_back()
                signal.raise_signal(number)
                return
            method.stop_signal = number
            if trainer.is_global_zero:
                name = signal.Signals(number).name
                say(f"\n{name}: saving after this step; once more to end now")

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, take_note)

    def _give_back(self) -> None:
        for number in self._before:
            signal.signal(
                number,
                signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back to whoever had them."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back to whoever had them."""
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)


class Bar(TQDMProgressBar):
    """One bar for the whole run, with the loss."""

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
        """What stands behind the bar."""
        progress_values = cast(Method, pl_module).progress_values
        return {
            name: f"{value:{',.0f' if value >= 100 else '.3f'}}"
            for name, value in progress_values.items()
        }


class MicroBatches(Callback):
    """Says once how large a step's micro-batches are, where memory has set a limit.

    Args:
        write: keeps the limit with the run's settings; called on the first rank alone.
        quiet: whether nothing is said.
    """

    def __init__(self, write: Callable[[int], None], quiet: bool) -> None:
        self.write, self.quiet, self._told = write, quiet, False

    @rank_zero_only
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the first step."""
        micro_batch_size = cast(Method, pl_module).micro_batch_size
        if self._told or not micro_batch_size.said or micro_batch_size.tokens is None:
            return
        self._told = True
        self.write(micro_batch_size.tokens)
        if not self.quiet:
            say(micro_batch_size.said)


class Lines(Callback):
    """A line now and then, where there is no terminal for a bar.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds, self._last = seconds, time.monotonic()

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where the run is."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            progress_values = cast(Method, pl_module).progress_values
            told = f"step {trainer.global_step:,} of {trainer.max_steps:,}"
            if progress_values:
                speed = progress_values["tokens/s"]
                told += f", loss {progress_values['loss']:.3f}, {speed:,.0f} tokens/s"
            say(told)


class Scores(Callback):
    """The scores of each validation, on one line."""

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
        bar = trainer.progress_bar_callback
        if isinstance(bar, Bar):
            bar.print(line)
        else:
            say(line)
