"""SIGINT and SIGTERM end a run after the step that is being made."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train import distributed
from sciembed_train.progress import print_line
from sciembed_train.training.run_lock import sigterm_handler


class Interrupted(BaseException):
    """A signal ended the run, which has been saved."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"signal {number} at step {step}")
        self.number, self.step = number, step


class Signals(Callback):
    """The signal that asks a run to end, on this rank and as agreed by all.

    A second signal ends the process at once. Lightning's own handler of SIGTERM calls a collective
    from inside the signal handler, which can meet another collective half done. This handler only
    takes a note. The ranks agree on it in the sum they make after each step anyway
    (`StepMetrics`), and after each validation.

    Attributes:
        received: number of the signal that this rank received; 0 for none.
        agreed: the same, known to every rank after a step.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0
        self._previous: dict[int, Any] = {}
        self._on_second = {
            int(signal.SIGINT): signal.default_int_handler,
            int(signal.SIGTERM): sigterm_handler(),
        }

    def agree(self, received: int, sum_over_ranks: float) -> None:
        """Set ``agreed`` from the sum of the ranks' signal numbers.

        Ranks that received different signals still all stop; the exit code is then the first
        rank's.
        """
        others = signal.SIGINT if sum_over_ranks == signal.SIGINT else signal.SIGTERM
        self.agreed = received or (int(others) if sum_over_ranks else 0)

    def agreed_after_validation(self, device: torch.device) -> int:
        """The signal that any rank received up to the end of a validation; 0 for none.

        Every rank calls it: it is a collective.
        """
        received = torch.tensor(float(self.received), device=device)
        if not distributed.sum_over_ranks(received).item():
            return 0
        return self.received or self.agreed or int(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over, after Lightning has; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return

        def take_note(number: int, frame: FrameType | None) -> None:
            if self.received:
                self._end_at_next()
                signal.raise_signal(number)
                return
            self.received = number
            if trainer.is_global_zero:
                name = signal.Signals(number).name
                print_line(f"\n{name}: saving after this step; once more to end now")

        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, take_note)

    def _end_at_next(self) -> None:
        for number in self._previous:
            signal.signal(number, self._on_second[number])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the previous handlers."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the previous handlers."""
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
