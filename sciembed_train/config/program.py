"""The name that the program was called by."""

from __future__ import annotations

import sys
from pathlib import Path

INSTALLED = "sciembed-train"


def program() -> str:
    """``sciembed-train`` where it was called so, else ``./train``, as in a checkout."""
    return INSTALLED if Path(sys.argv[0]).name.startswith(INSTALLED) else "./train"


def as_called(message: str) -> str:
    """A message in which commands, written as `` `train fit` ``, start with the program's name."""
    return message.replace("`train ", f"`{program()} ")
