"""Loss curves as one SVG picture: a panel a loss, a colour a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Points = Sequence[tuple[int, float]]

# Told apart by those who do not see all colours (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 250, 48, 34, 58
LEGEND = 40
TITLES = {"contrastive_loss": "Contrastive loss (NT-Xent)", "mlm_loss": "MLM loss"}


@dataclass(frozen=True)
class Curve:
    """A run's losses.

    Args:
        name: of the run.
        train: step and loss, every step.
        held_out: step and loss of the held-out documents.
    """

    name: str
    train: Points
    held_out: Points


def smooth(points: Points, over: int) -> list[tuple[int, float]]:
    """Means of ``over`` neighbouring steps, each at their last one."""
    groups = [points[i : i + over] for i in range(0, len(points), over)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def picture(runs: Sequence[dict[str, Curve]]) -> str:
    """The whole picture as SVG text."""
    names = list(runs[0])
    width = len(names) * (LEFT + WIDTH) + GAP
    height = TOP + HEIGHT + 46 + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, name in enumerate(names):
        panel = _panel(TITLES.get(name, name), [run[name] for run in runs])
        parts.append(f'<g transform="translate({LEFT + number * (WIDTH + GAP)} {TOP})">{panel}</g>')
    x, y = LEFT, TOP + HEIGHT + 58
    for run, colour in zip(runs, COLOURS, strict=False):
        label = run[names[0]].name
        parts.append(
            f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x + 28}" y="{y + 4}">{label}</text>'
        )
        x += 110
    parts.append(
        f'<path d="M{x} {y}h22" stroke="#555555" stroke-opacity="0.45"/>'
        f'<text x="{x + 28}" y="{y + 4}">training, mean of 5 steps</text>'
        f'<circle cx="{x + 200}" cy="{y}" r="3.5" fill="#555555"/>'
        f'<text x="{x + 210}" y="{y + 4}">held-out documents</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(title: str, curves: Sequence[Curve]) -> str:
    trains = [smooth(curve.train, 5) for curve in curves]
    everything = [p for c, t in zip(curves, trains, strict=True) for p in (*t, *c.held_out)]
    last = max(step for step, _ in everything)
    top = max(loss for _, loss in everything) * 1.03
    # From 0 on, unless the curves would then all lie in the upper half.
    low = min(loss for _, loss in everything)
    bottom = 0.0 if low < top / 2 else math.floor(low)

    def at(step: float, loss: float) -> str:
        x = WIDTH * step / last
        y = HEIGHT * (top - loss) / (top - bottom)
        return f"{x:.1f} {y:.1f}"

    parts = [f'<text x="0" y="-12" font-size="13" font-weight="bold">{title}</text>']
    for loss in _ticks(bottom, top):
        y = at(0, loss).split()[1]
        parts.append(
            f'<path d="M0 {y}h{WIDTH}" stroke="#dddddd"/>'
            f'<text x="-8" y="{float(y) + 4:.1f}" text-anchor="end">{loss:g}</text>'
        )
    for step in _ticks(0, last):
        x = at(step, top).split()[0]
        parts.append(f'<text x="{x}" y="{HEIGHT + 18}" text-anchor="middle">{step:g}</text>')
    parts.append(
        f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#555555"/>'
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 36}" text-anchor="middle">optimiser step</text>'
    )
    for curve, train, colour in zip(curves, trains, COLOURS, strict=False):
        lines = ((train, 0.45, 1.2), (curve.held_out, 1.0, 2.0))
        for points, opacity, stroke in lines:
            path = "M" + "L".join(at(*point) for point in points)
            parts.append(
                f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}" '
                f'stroke-opacity="{opacity}"/>'
            )
        for point in curve.held_out:
            x, y = at(*point).split()
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>')
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, four to eight of them."""
    size = 10 ** math.floor(math.log10(high - low))
    step = next(s * size for s in (0.1, 0.2, 0.25, 0.5, 1) if (high - low) / (s * size) <= 7)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
