"""A distribution of whole numbers as a small chart: bars, both axes with numbers, key figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from sciembed_train.report_page.axis import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    height_lines,
    number,
    short,
)
from sciembed_train.report_page.tally import Bar, Tally

BELOW_ONE = 0.7  # where a logarithmic axis of counts begins, so that a count of 1 is seen
WIDE = 50  # times the least count that the largest must be for such an axis
SEEN = 1.0  # pixels of the lowest bar, so that none is invisible
LETTER = 6.5  # pixels of a letter below the axis


def distribution(name: str, tally: Tally, unit: str, counted: str = "papers") -> str:
    """A chart of how many papers have which number; logarithmic where few have a very large one.

    Args:
        name: of the number.
        tally: the numbers.
        unit: what the number counts, such as ``words``; empty where it counts nothing.
        counted: what has the number.
    """
    log = tally.heavy_tailed
    bars = tally.doubling_bars() if log else tally.even_bars()
    if not bars:
        return f"<figure>\n<figcaption><b>{escape(name)}</b> none</figcaption></figure>"
    facts = f"median {_value(tally.quantile(0.5), unit)}, "
    if unit:  # of years a mean says nothing
        facts += f"mean {number(tally.mean)}, "
    facts += f"from {_value(tally.least, unit)} to {_value(tally.largest, unit)}"
    summary = escape(f"({_counted(tally.total, counted)}): {facts}")
    caption = f"<b>{escape(name)}</b> {summary}"
    counts = [bar.count for bar in bars if bar.count]
    log_height = log and max(counts) >= WIDE * min(counts)
    notes = [f"across {unit or name.lower()}, upwards {counted}"]
    if log:
        notes.append("each bar twice as wide as the one before")
    if log_height:
        notes.append("upwards logarithmic")
    if below := tally.between(0, bars[0].first - 1):
        notes.append(f"{_counted(below, counted)} below {_value(bars[0].first, unit)} not drawn")
    if above := tally.between(bars[-1].last + 1, tally.largest):
        notes.append(f"{_counted(above, counted)} above {_value(bars[-1].last, unit)} not drawn")
    y = Axis(BELOW_ONE if log_height else 0, max(counts), HEIGHT - BOTTOM, TOP, log_height)
    body = [*height_lines(y, whole=True), *_drawn(bars, y, log, unit, counted)]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}"'
    picture = "\n".join([f"<svg {size}>", *body, "</svg>"])
    note = f"<small>{escape('; '.join(notes))}</small>"
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{picture}\n{note}</figure>"


def _value(value: int, unit: str) -> str:
    """A number as it stands in a text: a year has no comma."""
    return f"{value:,}" if unit else str(value)


def _of(count: int, many: str) -> str:
    """The noun for a count, singular or plural, from its plural."""
    return many.removesuffix("s") if count == 1 else many


def _counted(count: int, many: str) -> str:
    return f"{count:,} {_of(count, many)}"


def _drawn(bars: Sequence[Bar], y: Axis, even: bool, unit: str, counted: str) -> list[str]:
    """The bars and the numbers below them; ``even`` draws all in the same width."""
    drawn: list[str] = []
    ends = range(len(bars) + 1) if even else [*(b.first for b in bars), bars[-1].last + 1]
    x = Axis(ends[0], ends[-1], LEFT, WIDTH - RIGHT)
    bottom = HEIGHT - BOTTOM
    spans = list(zip(bars, pairwise(ends), strict=True))
    for bar, (left, right) in spans:
        if not bar.count:
            continue
        top = min(y.at(bar.count), bottom - SEEN)
        span = _value(bar.first, unit)
        if bar.last > bar.first:
            span += f" to {_value(bar.last, unit)}"
        place = f'x="{x.at(left):.1f}" y="{top:.1f}" height="{bottom - top:.1f}"'
        width = f'width="{max(x.at(right) - x.at(left) - 1, 0.5):.1f}"'
        text = escape(f"{span} {_of(bar.last, unit)}".strip() + f": {_counted(bar.count, counted)}")
        drawn.append(f'<rect class="bar" {place} {width}><title>{text}</title></rect>')
    single = all(bar.first == bar.last for bar in bars)
    if even or (single and len(bars) * 5 * LETTER <= WIDTH - LEFT - RIGHT):
        marks = [((x.at(a) + x.at(b)) / 2, bar.first) for bar, (a, b) in spans]
    else:
        whole = [int(value) for value in x.ticks() if value == int(value) and value < ends[-1]]
        marks = [(x.at(value + 0.5 * single), value) for value in whole]
    free = 0.0  # pixel from which on there is room for the next number
    for place, value in marks:
        shown = short(value) if unit else str(value)
        half = len(shown) * LETTER / 2
        if place - half >= free and place + half <= WIDTH:
            free = place + half + LETTER
            where = f'x="{place:.1f}" y="{HEIGHT - 7}"'
            drawn.append(f'<text {where} text-anchor="middle">{shown}</text>')
    return drawn
