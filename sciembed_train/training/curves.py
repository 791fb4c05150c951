"""A number over the steps of a run as a small picture: one SVG in one HTML figure.

It takes its colours from the page's style sheet, by class: ``train``, ``val``, ``pale``,
``axis``, ``best``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Literal

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
    svg_line,
)

MOST = 600  # points of a curve that are drawn; a picture has fewer columns
DOTTED = 60  # a held-out curve of so many points or fewer shows each
FAR = 5.0  # ranges of nearly all values that another may lie beyond them before the axis ends
# Largest over smallest value from which a loss is drawn on a log scale; and to which, unless that
# many times lie between nearly all values: a single explosion is better left outside.
LOG_FROM, LOG_TO = 20.0, 1e4
SMOOTHED = 60  # a training curve of twice so many points is drawn pale, and its medians over it

Point = tuple[int, float]  # step and value; nan or inf where there is none


@dataclass(frozen=True)
class Curve:
    """Values by step."""

    kind: Literal["train", "val"]
    points: Sequence[Point]


def figure(
    name: str,
    curves: Sequence[Curve],
    steps: tuple[int, int],
    *,
    best: int | None = None,
    may_log: bool = False,
    unit: str = "step",
) -> str:
    """A figure of one number by step (or another ``unit``), with its last value.

    Values that are nan or inf are gaps.
    """
    every = [point for curve in curves for point in curve.points]
    values = [value for _, value in every if math.isfinite(value)]
    notes = []
    if missing := len(every) - len(values):
        notes.append(f"{_times(missing)} nan or infinite: a gap")
    body: list[str] = []
    if values:
        low, high, log = limits(values, may_log)
        if outside := [value for value in values if not low <= value <= high]:
            farthest = number(max(outside, key=abs))
            notes.append(f"{_times(len(outside))} beyond the axis, up to {farthest}")
        if log:
            notes.append("log scale")
        first, last = steps
        x = Axis(first - (first == last), last + (first == last), LEFT, WIDTH - RIGHT)
        y = Axis(low, high, HEIGHT - BOTTOM, TOP, log)
        body += _axes(x, y)
        if best is not None and first <= best <= last:
            body.append(svg_line("best", x.at(best), TOP, x.at(best), HEIGHT - BOTTOM))
        for curve in curves:
            body += _drawn(curve, x, y, best, unit)
    caption = f"<b>{escape(name)}</b> " + ", ".join(_last(curve, best) for curve in curves)
    told = f"<small>{escape('; '.join(notes))}</small>" if notes else ""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)} by {unit}"'
    picture = "\n".join([f"<svg {size}>", *body, "</svg>"])
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{picture}\n{told}</figure>"


def limits(values: Sequence[float], may_log: bool = False) -> tuple[float, float, bool]:
    """Lower and upper end of the axis, and whether it is logarithmic.

    The ends are the least and the largest value, unless one of these lies very far from nearly all
    others: a single explosion would make a flat line of everything else.
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    cut = len(ordered) // 50
    inner_low, inner_high = ordered[cut], ordered[-1 - cut]
    wide = high < LOG_TO * low or inner_high > LOG_FROM * inner_low
    if may_log and low > 0 and high > LOG_FROM * low and wide:
        return low, high, True
    span = inner_high - inner_low
    if span > 0:  # else one value is nearly all there is, and the others are what there is to see
        low = inner_low - span if inner_low - low > FAR * span else low
        high = inner_high + span if high - inner_high > FAR * span else high
    if low == high:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    return low, high, False


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most about ``most`` of the points: of each stretch the lowest, the highest and a gap."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        micro_batch = points[start : start + stretch]
        finite = [i for i, (_, value) in enumerate(micro_batch) if math.isfinite(value)]
        chosen = {i for i, (_, value) in enumerate(micro_batch) if not math.isfinite(value)}
        chosen = set(sorted(chosen)[:1])
        if finite:
            chosen.add(min(finite, key=lambda i: micro_batch[i][1]))
            chosen.add(max(finite, key=lambda i: micro_batch[i][1]))
        kept += [micro_batch[i] for i in sorted(chosen)]
    return kept


def medians(points: Sequence[Point], stretches: int = SMOOTHED) -> list[Point]:
    """One point of each stretch, its median in the stretch's middle; nan where it has no number."""
    length = math.ceil(len(points) / stretches)
    found: list[Point] = []
    for start in range(0, len(points), length):
        micro_batch = points[start : start + length]
        finite = [value for _, value in micro_batch if math.isfinite(value)]
        found.append(
            (micro_batch[len(micro_batch) // 2][0], median(finite) if finite else math.nan)
        )
    return found


def _last(curve: Curve, best: int | None) -> str:
    text = number(curve.points[-1][1]) if curve.points else "none"
    if curve.kind == "val":
        there = [number(value) for step, value in curve.points[:-1] if step == best]
        text = f"held out {text}" + "".join(f" (best step {value})" for value in there)
    return f'<span class="{curve.kind}">{text}</span>'


def _times(count: int) -> str:
    return "1 value" if count == 1 else f"{count:,} values"


def _drawn(curve: Curve, x: Axis, y: Axis, best: int | None, unit: str) -> list[str]:
    """Lines between neighbours, and dots where there are few or a value stands alone."""
    smoothed = curve.kind == "train" and len(curve.points) > 2 * SMOOTHED
    drawn = _lines(curve.kind + " pale" * smoothed, thinned(curve.points), x, y, unit)
    if smoothed:
        drawn += _lines(curve.kind, medians(curve.points), x, y, unit)
    if curve.kind == "val" and len(curve.points) <= DOTTED:
        for step, value in curve.points:
            if math.isfinite(value):
                drawn.append(_dot("val", step, value, x, y, 4.5 if step == best else 2.5, unit))
    return drawn


def _lines(kind: str, points: Sequence[Point], x: Axis, y: Axis, unit: str) -> list[str]:
    runs: list[list[Point]] = [[]]
    for step, value in points:
        if math.isfinite(value):
            runs[-1].append((step, value))
        elif runs[-1]:
            runs.append([])
    drawn = []
    for run in runs:
        if len(run) == 1:
            drawn.append(_dot(kind, *run[0], x, y, 2.5, unit))
        elif run:
            places = (f"{x.at(step):.1f} {y.at(value):.1f}" for step, value in run)
            drawn.append(f'<path class="{kind}" d="M{"L".join(places)}"/>')
    return drawn


def _dot(kind: str, step: int, value: float, x: Axis, y: Axis, radius: float, unit: str) -> str:
    place = f'cx="{x.at(step):.1f}" cy="{y.at(value):.1f}" r="{radius}"'
    told = f"<title>{unit} {step:,}: {number(value)}</title>"
    return f'<circle class="{kind}" {place}>{told}</circle>'


def _axes(x: Axis, y: Axis) -> list[str]:
    drawn = height_lines(y)
    for value in x.ticks():
        if value == int(value):
            place = f'x="{x.at(value):.1f}" y="{HEIGHT - 7}"'
            drawn.append(f'<text {place} text-anchor="middle">{short(value)}</text>')
    return drawn
