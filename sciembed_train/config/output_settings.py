"""What a command prints."""

from __future__ import annotations

from dataclasses import dataclass


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
