"""What charts share: their size, an axis from values to pixels, its round numbers, its lines.

A chart is one SVG, which takes its colours from the style sheet of the page by class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 24  # room around the chart, for the numbers of the axes


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; of one beyond an end, that end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers between the ends, mostly two to five."""
        if not self.log:
            step = round_step((self.high - self.low) / 5)
            first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
            return [number * step for number in range(first, last + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        parts = (1, 2, 5) if len(powers) <= 3 else (1,)
        every = max(1, len(powers) // 5)
        candidates = [part * 10.0**power for power in powers[::every] for part in parts]
        return [value for value in candidates if self.low <= value <= self.high]


def number(value: float) -> str:
    """A value with as many digits as a person reads."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def short(value: float) -> str:
    """A number as it stands beside an axis, such as ``20k``, in three digits where it is large."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (1e4 if name == "k" else unit):
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def svg_line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of a class of the style sheet, between two points in pixels."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" {ends}/>'


def height_lines(y: Axis, whole: bool = False) -> list[str]:
    """A line across the chart at each round number of the upright axis, with the number.

    ``whole`` leaves out those that are no whole numbers.
    """
    drawn = []
    for value in y.ticks():
        if whole and value != int(value):
            continue
        height = y.at(value)
        drawn.append(svg_line("axis", LEFT, height, WIDTH - RIGHT, height))
        drawn.append(
            f'<text x="{LEFT - 5}" y="{height + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
    return drawn


def round_step(least: float) -> float:
    """The least of 1, 2, 5, 10 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next(part for part in (1, 2, 5, 10) if part * power >= least * (1 - 1e-9))
