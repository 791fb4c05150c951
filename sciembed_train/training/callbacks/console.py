"""Lines printed while a run goes on."""

from __future__ import annotations

import contextlib
import sys


def print_line(text: str) -> None:
    """Print a line to standard error; a closed pipe is no reason to lose the run."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
