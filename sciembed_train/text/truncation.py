"""How much of the texts an encoder cuts off, because they are longer than it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Truncation:
    """Counts texts and tokens, and those that are cut.

    Args:
        texts: with a token.
        cut: of these, those longer than is read.
        tokens: of all texts, without special tokens.
        lost: of these, those that are not read.
        estimated: of the texts, those whose tokens are estimated, because they are very long.
    """

    texts: int = 0
    cut: int = 0
    tokens: int = 0
    lost: int = 0
    estimated: int = 0

    def add(self, lengths: NDArray[np.integer], most: int, estimated: int = 0) -> None:
        """Count texts of these ``lengths`` in tokens, of which at most ``most`` each are read."""
        self.estimated += estimated
        beyond = np.maximum(np.asarray(lengths, np.int64) - most, 0)
        self.texts += int(np.count_nonzero(lengths))
        self.cut += int(np.count_nonzero(beyond))
        self.tokens += int(np.sum(lengths, dtype=np.int64))
        self.lost += int(beyond.sum())

    def line(self, max_length: int, what: str = "texts") -> str:
        """One sentence on them, for people."""
        if not self.cut:
            return f"None of the {self.texts:,} {what} is longer than {max_length} tokens."
        about = "about " if self.estimated else ""
        return (
            f"{self.cut:,} of {self.texts:,} {what} ({self.cut / self.texts:.1%}) are cut at "
            f"{max_length} tokens (max_length): {about}{self.lost / self.tokens:.1%} of all tokens "
            "are not read."
        )
