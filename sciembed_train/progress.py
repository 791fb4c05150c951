"""How far long work has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

EVERY = 15.0  # seconds between lines where there is no terminal


class Progress:
    """Tells of stages of work, on standard error.

    Args:
        quiet: say nothing.
        stream: where to say it; standard error by default.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """A line."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
        """A stage of the work; its time is kept in ``seconds``."""
        stage = Stage(self, name, total, unit)
        started = time.monotonic()
        try:
            yield stage
        finally:
            stage.close()
        self.seconds[name] = time.monotonic() - started
        done = f"{stage.done:,} {unit}, " if stage.done else ""
        self.say(f"{name}: {done}{self.seconds[name]:.1f} s")


class Stage:
    """One stage: ``reach(n)`` says that ``n`` units are done."""

    def __init__(self, progress: Progress, name: str, total: int | None, unit: str) -> None:
        self.progress, self.name, self.total, self.unit = progress, name, total, unit
        self.done = 0
        self._bar = None
        self._told = time.monotonic()
        if not progress.quiet and progress.stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=name, total=total, unit=f" {unit}", file=progress.stream, leave=False
            )

    def reach(self, done: int, total: int | None = None) -> None:
        """So many units are done, of so many."""
        step, self.done = done - self.done, done
        self.total = total if total is not None else self.total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(step)
        elif time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            of = f" of {self.total:,}" if self.total else ""
            self.progress.say(f"{self.name}: {done:,}{of} {self.unit}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
