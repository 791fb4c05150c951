"""The page of a suite: its table, bars with intervals, and two models query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.suite.run_suite import SuiteScores
from sciembed_train.evaluation.suite.suite_table import Cell, Row, notes, share, short_names
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
    svg_line,
)
from sciembed_train.report_page.frame import page, paragraph, table, text_list

SHOWN = 5  # queries gained and lost, of each benchmark
MOST_POINTS = 2000  # of a scatter
TEXT = 160  # letters of a query
LINE = 20  # pixels a bar


def suite_page(found: SuiteScores, rows: Sequence[Row]) -> str:
    """The text of the page."""
    names = short_names(found.models)
    parts = [_table(found, rows, names), text_list(notes(found, rows))]
    parts.append("<h2>Scores and their 95 % intervals</h2>\n<section>")
    parts += [_bars(row, found.models, names) for row in rows]
    parts.append("</section>")
    if len(found.whole) > 1:
        first, second = found.whole[:2]
        parts.append(f"<h2>{escape(names[second])} beside {escape(names[first])}</h2>")
        for entry in found.suite.entries:
            before, after = (found.scores.get((entry.name, model)) for model in (first, second))
            metric = BENCHMARKS[entry.benchmark].metrics[0].rpartition("/")[2]
            if before is None or after is None or not before.tested():
                continue
            if all(metric in row for row in before.tested().values()):
                told = (names[first], names[second])
                parts.append(_by_query(entry.name, metric, before, after, told))
    return page("Benchmarks", parts)


def _table(found: SuiteScores, rows: Sequence[Row], names: Mapping[str, str]) -> str:
    head = ["benchmark", "metric", "queries", *(names[model] for model in found.models)]
    cells = []
    for row in rows:
        queries = next((c.mean.queries for c in row.cells.values() if c.mean is not None), "")
        shown = [_cell(row.cells.get(model)) for model in found.models]
        cells.append([row.entry, row.metric.rpartition("/")[2], queries, *shown])
    return table(head, cells)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{cell.value:.4f}{cell.mark}{share(cell)}" + (" (best)" if cell.best else "")


def _bars(row: Row, models: Sequence[str], names: Mapping[str, str]) -> str:
    """A bar a model from 0, and its interval."""
    cells = {model: row.cells[model] for model in models if model in row.cells}
    ends = [cell.mean.high if cell.mean else cell.value for cell in cells.values()]
    x = Axis(0, max([*ends, 1e-9]), 0, WIDTH - RIGHT)
    drawn = []
    for at, (model, cell) in enumerate(cells.items()):
        top = at * 2 * LINE
        told = f"{names[model]}: {cell.value:.4f}{share(cell)}"
        if cell.mean is not None:
            told += f" ({cell.mean.low:.4f} to {cell.mean.high:.4f})"
        drawn.append(f'<text x="0" y="{top + LINE - 6}">{escape(told)}</text>')
        width = max(x.at(cell.value), 0.5)
        place = f'x="0" y="{top + LINE}" height="{LINE - 6}" width="{width:.1f}"'
        drawn.append(f'<rect class="bar" {place}><title>{escape(told)}</title></rect>')
        if cell.mean is not None:
            middle = top + LINE + (LINE - 6) / 2
            low, high = x.at(cell.mean.low), x.at(cell.mean.high)
            drawn.append(svg_line("whisker", low, middle, high, middle))
            for end in (low, high):
                drawn.append(svg_line("whisker", end, middle - 4, end, middle + 4))
    title = f"{row.entry}: {row.metric.rpartition('/')[2]}"
    size = f'viewBox="0 0 {WIDTH} {len(cells) * 2 * LINE}" role="img" aria-label="{escape(title)}"'
    picture = "\n".join([f"<svg {size}>", *drawn, "</svg>"])
    return f"<figure>\n<figcaption><b>{escape(title)}</b></figcaption>\n{picture}</figure>"


def _by_query(
    entry: str, metric: str, before: Scores, after: Scores, names: tuple[str, str]
) -> str:
    """A scatter of two models' queries, and those that gained and lost most."""
    gains = {
        query: after.per_query[query][metric] - row[metric]
        for query, row in before.tested().items()
        if query in after.per_query
    }
    order = sorted(gains, key=lambda query: (-gains[query], query))
    better, worse = (sum(sign * gain > 1e-9 for gain in gains.values()) for sign in (1, -1))
    told = (
        f"{better:,} of {len(gains):,} queries score higher with {names[1]}, {worse:,} lower, "
        f"{len(gains) - better - worse:,} the same."
    )
    lists = []
    for title, chosen in (
        ("Gained most", [query for query in order if gains[query] > 1e-9][:SHOWN]),
        ("Lost most", [query for query in reversed(order) if gains[query] < -1e-9][:SHOWN]),
    ):
        if chosen:
            items = [_query(query, metric, before, after) for query in chosen]
            lists.append(f"<div><h3>{title}</h3>{text_list(items)}</div>")
    scatter = _scatter(entry, metric, before, after, names, order)
    return "\n".join(
        [
            f"<h3>{escape(entry)}: {escape(metric)}</h3>",
            paragraph(told),
            "<section>",
            scatter,
            *lists,
            "</section>",
        ]
    )


def _query(query: str, metric: str, before: Scores, after: Scores) -> str:
    text = before.query_texts.get(query, "")
    shown = f"{text[:TEXT]}{'...' if len(text) > TEXT else ''}" or query
    values = before.per_query[query][metric], after.per_query[query][metric]
    return f"{values[0]:.3f} to {values[1]:.3f}: {shown}"


def _scatter(
    entry: str,
    metric: str,
    before: Scores,
    after: Scores,
    names: tuple[str, str],
    order: Sequence[str],
) -> str:
    """A point a query: the first model across, the second upwards, and the line of equals."""
    step = -(-len(order) // MOST_POINTS)
    queries = order[::step]
    points = [(before.per_query[q][metric], after.per_query[q][metric]) for q in queries]
    values = [value for point in points for value in point]
    low, high = min(0.0, *values), max(*values, 1e-9)
    x, y = Axis(low, high, LEFT, WIDTH - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP)
    drawn = height_lines(y)
    drawn.append(svg_line("best", x.at(low), y.at(low), x.at(high), y.at(high)))
    for value in x.ticks():
        place = f'x="{x.at(value):.1f}" y="{HEIGHT - 7}" text-anchor="middle"'
        drawn.append(f"<text {place}>{number(value)}</text>")
    for first, second in points:
        place = f'cx="{x.at(first):.1f}" cy="{y.at(second):.1f}" r="2"'
        drawn.append(f'<circle class="train" {place} fill-opacity=".5"/>')
    title = f"{entry}: {metric} of each query"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
    note = f"across {names[0]}, upwards {names[1]}"
    if step > 1:
        note += f"; every {step}th query"
    picture = "\n".join([f"<svg {size}>", *drawn, "</svg>"])
    return f"<figure>\n{picture}\n<small>{escape(note)}</small></figure>"
