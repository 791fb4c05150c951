"""Progress of long work: a bar on a terminal, elsewhere a line every 15 seconds.

Each says how long the rest takes, where it is known how much there is.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

EVERY = 15.0  # seconds between lines where there is no terminal


class Progress:
    """Reports the progress of each stage of work.

    Args:
        quiet: print nothing.
        stream: where to print; standard error by default.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self.seconds: dict[str, float] = {}

    def print(self, text: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "rows", done: int = 0
    ) -> Iterator[Stage]:
        """A stage of the work; its time is kept in ``seconds``.

        Args:
            name: of the stage.
            total: units of work in all; None if unknown.
            unit: what is counted.
            done: units that an earlier process has done, of work that continues.
        """
        stage = Stage(self, name, total, unit, done)
        started = time.monotonic()
        try:
            yield stage
        finally:
            stage.close()
        self.seconds[name] = time.monotonic() - started
        amount = f"{stage.done:,} {unit}, " if stage.done else ""
        self.print(f"{name}: {amount}{self.seconds[name]:.1f} s")


class Stage:
    """The progress of one stage; see `Progress.stage`."""

    def __init__(
        self, progress: Progress, name: str, total: int | None, unit: str, done: int = 0
    ) -> None:
        self.progress, self.name, self.total, self.unit = progress, name, total, unit
        self.done = self._before = done
        self._bar = None
        self._started = self._last_line = time.monotonic()
        if not progress.quiet and progress.stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=name,
                total=total,
                initial=done,
                unit=f" {unit}",
                file=progress.stream,
                leave=False,
            )

    def reach(self, done: int, total: int | None = None) -> None:
        """Report that ``done`` units, of ``total`` if known, are done."""
        step, self.done = done - self.done, done
        self.total = total if total is not None else self.total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(step)
        elif time.monotonic() - self._last_line > EVERY:
            self._last_line = time.monotonic()
            total_text = f" of {self.total:,}" if self.total else ""
            self.progress.print(f"{self.name}: {done:,}{total_text} {self.unit}{self._left()}")

    def _left(self) -> str:
        """How long the rest takes at the speed so far; empty where that is not known."""
        made = self.done - self._before
        if not self.total or made <= 0 or self.total < self.done:
            return ""
        passed = self._last_line - self._started
        return f", {duration(passed / made * (self.total - self.done))} left"

    def advance(self, count: int) -> None:
        """Report that ``count`` more units are done."""
        self.reach(self.done + count)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Seconds as a person says them, such as ``45 s``, ``12 min`` or ``2.5 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def print_line(text: str) -> None:
    """Print a line to standard error; a closed pipe is no reason to lose the run."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
