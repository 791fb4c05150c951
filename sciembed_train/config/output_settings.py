"""What a command prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OutputSettings:
    """What is printed.

    Args:
        json: print the result as JSON.
        quiet: print nothing but errors.
    """

    json: bool = False
    quiet: bool = False

    @property
    def progress(self) -> bool:
        """Whether the progress is shown."""
        return not (self.json or self.quiet)

    def show(self, text: object, values: Mapping[str, Any]) -> None:
        """Print a result: as JSON its plain values, else as text for people, or nothing."""
        if self.json:
            print(json.dumps(values, ensure_ascii=False), flush=True)
        elif not self.quiet:
            print(text, flush=True)
