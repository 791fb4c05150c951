"""A distribution of whole numbers as a small picture: bars, both axes with numbers, the figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
LABEL = 26  # pixels between two numbers of an axis


def distribution(name: str, tally: Tally, unit: str, counted: str = "papers") -> str:
    """A figure of how many papers have which number; logarithmic where few have a very large one.

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
    told = f"median {_value(tally.quantile(0.5), unit)}, "
    if unit:  # of years a mean says nothing
        told += f"mean {number(tally.mean)}, "
    told += f"from {_value(tally.least, unit)} to {_value(tally.largest, unit)}"
    caption = f"<b>{escape(name)}</b> of {tally.total:,} {escape(counted)}: {told}"
    counts = [bar.count for bar in bars if bar.count]
    log_height = log and max(counts) >= WIDE * min(counts)
    notes = [f"across {escape(unit or name.lower())}, upwards {escape(counted)}"]
    if log:
        notes.append("each bar twice as wide as the one before")
    if log_height:
        notes.append("upwards logarithmic")
    if below := tally.between(0, bars[0].first - 1):
        notes.append(f"{below:,} below {_value(bars[0].first, unit)} are not drawn")
    if above := tally.between(bars[-1].last + 1, tally.largest):
        notes.append(f"{above:,} above {_value(bars[-1].last, unit)} are not drawn")
    y = Axis(BELOW_ONE if log_height else 0, max(counts), HEIGHT - BOTTOM, TOP, log_height)
    body = [*height_lines(y, whole=True), *_drawn(bars, y, log, unit, counted)]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}"'
    picture = "\n".join([f"<svg {size}>", *body, "</svg>"])
    note = f"<small>{'; '.join(notes)}</small>"
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{picture}\n{note}</figure>"


def _value(value: int, unit: str) -> str:
    """A number as it stands in a text: a year has no comma."""
    return f"{value:,}" if unit else str(value)


def _drawn(bars: Sequence[Bar], y: Axis, even: bool, unit: str, counted: str) -> list[str]:
    """The bars and the numbers below them; ``even`` draws all in the same width."""
    drawn: list[str] = []
    ends = range(len(bars) + 1) if even else [*(b.first for b in bars), bars[-1].last + 1]
    x = Axis(ends[0], ends[-1], LEFT, WIDTH - RIGHT)
    bottom = HEIGHT - BOTTOM
    for bar, left, right in zip(bars, ends, ends[1:], strict=False):
        if not bar.count:
            continue
        top = y.at(bar.count)
        span = _value(bar.first, unit)
        if bar.last > bar.first:
            span += f" to {_value(bar.last, unit)}"
        place = f'x="{x.at(left):.1f}" y="{top:.1f}" height="{bottom - top:.1f}"'
        width = f'width="{max(x.at(right) - x.at(left) - 1, 0.5):.1f}"'
        text = escape(f"{span} {unit}".strip() + f": {bar.count:,} {counted}")
        drawn.append(f'<rect class="bar" {place} {width}><title>{text}</title></rect>')
    single = all(bar.first == bar.last for bar in bars)
    if even:
        marks = [(x.at(i + 0.5), bar.first) for i, bar in enumerate(bars)]
    else:
        whole = [int(value) for value in x.ticks() if value == int(value) and value < ends[-1]]
        marks = [(x.at(value + 0.5 * single), value) for value in whole]
    last = -LABEL
    for place, value in marks:
        if place - last >= LABEL:
            last = place
            shown = short(value) if unit else str(value)
            where = f'x="{place:.1f}" y="{HEIGHT - 7}"'
            drawn.append(f'<text {where} text-anchor="middle">{shown}</text>')
    return drawn
