"""How often each whole number occurs, counted a batch at a time, and the bars of a chart of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.report_page.axis import round_step

MOST = 10**7  # a larger number counts as this one: there is one place in memory for each
BARS = 30  # about so many of the same width
EDGE = 0.005  # share of the numbers at either end that may lie outside of a chart
FAR = 2.0  # they do only if farther away than so many times the width of the rest
# A number so large and so many times the median makes bars of doubled width; see `heavy_tailed`.
LARGE, TIMES = 20, 8


@dataclass(frozen=True)
class Bar:
    """How many numbers lie from ``first`` to ``last``, both included."""

    first: int
    last: int
    count: int


class Tally:
    """Counts whole numbers of 0 or more."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)
        self._sum = 0

    def add(self, values: NDArray[np.integer]) -> None:
        """Count a batch of numbers."""
        if not len(values):
            return
        values = np.minimum(values, MOST)
        self._sum += int(values.sum(dtype=np.int64))
        new = np.bincount(values)
        if len(new) > len(self.counts):
            new[: len(self.counts)] += self.counts
            self.counts = new
        else:
            self.counts[: len(new)] += new

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of all numbers; 0 of none."""
        return self._sum / max(self.total, 1)

    @property
    def least(self) -> int:
        """The smallest number; 0 of none."""
        return int(np.argmax(self.counts > 0)) if len(self.counts) else 0

    @property
    def largest(self) -> int:
        """The largest number; 0 of none."""
        return max(len(self.counts) - 1, 0)

    def quantile(self, share: float) -> int:
        """The number that this share of them does not exceed; 0 of none."""
        if not len(self.counts):
            return 0
        place = max(int(np.ceil(share * self.total)), 1)
        return int(np.searchsorted(np.cumsum(self.counts), place))

    @property
    def heavy_tailed(self) -> bool:
        """Whether a few numbers are so large that bars of one width would show them alone."""
        return self.largest >= max(LARGE, TIMES * self.quantile(0.5))

    def between(self, first: int, last: int) -> int:
        """How many numbers lie from ``first`` to ``last``, both included."""
        return int(self.counts[max(first, 0) : last + 1].sum())

    def even_bars(self) -> list[Bar]:
        """Bars of one width, without the few numbers that lie far from all others."""
        if not self.total:
            return []
        low, high = self.quantile(EDGE), self.quantile(1 - EDGE)
        room = FAR * (high - low + 1)
        low = self.least if low - self.least <= room else low
        high = self.largest if self.largest - high <= room else high
        width = max(int(round_step((high - low + 1) / BARS)), 1)
        firsts = range(low - low % width, high + 1, width)
        return [
            Bar(first, first + width - 1, self.between(first, first + width - 1))
            for first in firsts
        ]

    def doubling_bars(self) -> list[Bar]:
        """Bars of 0, 1, 2 to 3, 4 to 7 and so on."""
        bars, first, last = [], 0, 0
        while first <= self.largest and self.total:
            bars.append(self._bar(first, last))
            first = last + 1
            last = 2 * first - 1
        return bars

    def _bar(self, first: int, last: int) -> Bar:
        return Bar(first, last, self.between(first, last))
