"""One table of a suite: a row a benchmark and metric, a column a model, intervals, significance.

The p-values of a model against the first one are corrected over the rows by Holm's method.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.published import published
from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.significance import (
    Comparison,
    MeanScore,
    compare_queries,
    holm,
    mean_score,
)
from sciembed_train.evaluation.suite.run_suite import SuiteScores

SIGNIFICANT = 0.05
BOLD, PLAIN = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class Cell:
    """A model's score on a metric of a benchmark.

    Args:
        value: the score, as the benchmark defines it.
        mean: the mean over queries with its interval; None where the metric has no queries.
        comparison: with the first model; None for that one, and without queries.
        p_holm: its p-value, corrected over the rows of the table.
        best: no model has a higher score, stored forms aside.
        kept: of a stored form, the share of the model's score with whole vectors in float32; None
            where that is not above 0.
    """

    value: float
    mean: MeanScore | None
    comparison: Comparison | None = None
    p_holm: float | None = None
    best: bool = False
    kept: float | None = None

    @property
    def mark(self) -> str:
        """``+`` or ``-`` where the difference to the first model is significant."""
        if self.comparison is None or self.p_holm is None or self.p_holm > SIGNIFICANT:
            return ""
        return "+" if self.comparison.difference > 0 else "-"


@dataclass(frozen=True)
class Row:
    """A metric of a benchmark.

    Args:
        entry: the name of the benchmark in the suite.
        metric: key of the score.
        cells: by model; a model that cannot be scored is not there.
    """

    entry: str
    metric: str
    cells: Mapping[str, Cell]


def suite_rows(found: SuiteScores) -> list[Row]:
    """The rows of the table, in the order of the suite."""
    drafts: list[tuple[str, str, dict[str, Cell]]] = []
    for entry in found.suite.entries:
        scored = {
            model: found.scores[entry.name, model]
            for model in found.models
            if (entry.name, model) in found.scores
        }
        for metric in BENCHMARKS[entry.benchmark].metrics:
            cells = _cells(metric, scored, found)
            if cells:
                drafts.append((entry.name, metric, cells))
    for model in found.models[1:]:
        compared = {
            f"{entry} {metric}": (cells, cells[model].comparison)
            for entry, metric, cells in drafts
            if model in cells
        }
        p_values = {name: c.p_value for name, (_, c) in compared.items() if c is not None}
        for name, corrected in holm(p_values).items():
            cells = compared[name][0]
            cells[model] = replace(cells[model], p_holm=corrected)
    return [Row(*draft) for draft in drafts] + _rows_of_mteb(found)


def _rows_of_mteb(found: SuiteScores) -> list[Row]:
    """A row a task of mteb; nothing is known of its queries."""
    rows = []
    for task in dict.fromkeys(task for task, _ in found.of_mteb):
        values = {m: found.of_mteb[task, m] for m in found.models if (task, m) in found.of_mteb}
        best = max(values.values())
        cells = {m: Cell(v, None, best=len(values) > 1 and v >= best) for m, v in values.items()}
        rows.append(Row(f"mteb/{task}", "main_score", cells))
    return rows


def _cells(metric: str, scored: Mapping[str, Scores], found: SuiteScores) -> dict[str, Cell]:
    """A model's cell, of those that have the metric."""
    first = found.models[0]
    name = metric.rpartition("/")[2]
    values = {m: scores.metrics[metric] for m, scores in scored.items() if metric in scores.metrics}
    whole = [value for model, value in values.items() if model not in found.stored]
    cells: dict[str, Cell] = {}
    for model, value in values.items():
        rows = scored[model].tested()
        by_query = bool(rows) and all(name in row for row in rows.values())
        mean = mean_score([row[name] for row in rows.values()]) if by_query else None
        comparison = None
        if mean is not None and model != first and first in values:
            comparison = compare_queries(scored[first].tested(), rows, name)
        best = model not in found.stored and len(whole) > 1 and value >= max(whole)
        of_whole = values.get(found.stored[model][0], 0.0) if model in found.stored else 0.0
        kept = value / of_whole if of_whole > 0 else None
        cells[model] = Cell(value, mean, comparison, best=best, kept=kept)
    return cells


def as_text(found: SuiteScores, rows: Sequence[Row], bold: bool = False) -> str:
    """The table for people; ``bold`` marks the best of each row for a terminal."""
    names = short_names(found.models)
    head = ["benchmark", "metric", *(names[model] for model in found.models)]
    cells = [
        [row.entry, row.metric.rpartition("/")[2], *(_shown(row, m) for m in found.models)]
        for row in rows
    ]
    widths = [max(len(line[at]) for line in [head, *cells]) for at in range(len(head))]
    lines = [_line(head, widths)]
    for row, line in zip(rows, cells, strict=True):
        best = [False, False, *(m in row.cells and row.cells[m].best for m in found.models)]
        lines.append(_line(line, widths, best if bold and len(found.whole) > 1 else None))
    return "\n".join([*lines, "", *notes(found, rows)])


def notes(found: SuiteScores, rows: Sequence[Row]) -> list[str]:
    """Sentences below the table."""
    lines = []
    if len(found.models) > 1:
        lines.append(
            f"+ and - after a score: above or below {short_names(found.models)[found.models[0]]} "
            f"with p below {SIGNIFICANT} by the randomisation test over queries, corrected over "
            "the rows (Holm)."
        )
    lines += _notes_of_forms(found)
    if found.of_mteb:
        lines.append("mteb/...: the main scores of mteb, read from its results, not measured here.")
    reasons: dict[str, list[str]] = {}
    for (entry, model), why in found.skipped.items():
        reasons.setdefault(f"{short_names(found.models)[model]} {why}", []).append(entry)
    lines += [f"{why}: not scored on {', '.join(entries)}." for why, entries in reasons.items()]
    warned = [
        f"{entry}, {short_names(found.models)[model]}: {scores.warning}"
        for (entry, model), scores in found.scores.items()
        if scores.warning is not None and model not in found.stored
    ]
    lines += [f"warning: {line}" for line in warned]
    if found.suite.unknown:
        lines.append(f"Nothing is recognised in {', '.join(found.suite.unknown)}.")
    theirs = published_rows(found)
    if theirs:
        lines.append("Published, and not measured here:")
        lines += [
            f"  {name} {metric}: {value} {model} ({source})"
            for name, metric, model, value, source in theirs
        ]
    if found.suite.missing:
        lines.append("Not in the suite:")
        lines += [f"  {name}: {BENCHMARKS[name].source}" for name in found.suite.missing]
    return lines


def _notes_of_forms(found: SuiteScores) -> list[str]:
    """What the columns of stored forms are, and which models have none."""
    if not found.stored:
        return []
    names = list(dict.fromkeys(form.name for _, form in found.stored.values()))
    lines = [
        f"{', '.join(names)} behind a model's name: its vectors cut to so many numbers, or stored "
        "so and read again. The percentage is the share of its score with whole vectors in float32."
    ]
    having = {model for model, _ in found.stored.values()}
    short = short_names(found.models)
    others = [short[model] for model in found.whole if model not in having]
    if others:
        lines.append(f"Of {', '.join(others)} there is no vector of a text to cut or store.")
    return lines


def published_rows(found: SuiteScores) -> list[list[str]]:
    """Benchmark, metric, model, score and source of what others published on the suite's metrics.

    Empty where it was not asked for.
    """
    benchmarks = {entry.benchmark for entry in found.suite.entries} if found.published else set()
    return [
        [one.benchmark, metric.rpartition("/")[2], one.model, f"{value:.4f}", one.source]
        for one in published()
        for metric, value in one.metrics.items()
        if one.benchmark in benchmarks and metric in BENCHMARKS[one.benchmark].metrics
    ]


def as_markdown(found: SuiteScores, rows: Sequence[Row]) -> str:
    """The table in Markdown, with intervals, the best of a row in bold."""
    names = short_names(found.models)
    head = ["benchmark", "metric", "queries", *(names[model] for model in found.models)]
    lines = [f"| {' | '.join(head)} |", f"|---|---|--:|{'---|' * len(found.models)}"]
    for row in rows:
        means = [cell.mean for cell in row.cells.values() if cell.mean is not None]
        shown = [
            row.entry,
            f"`{row.metric.rpartition('/')[2]}`",
            f"{means[0].queries:,}" if means else "",
            *(_marked(row.cells.get(model)) for model in found.models),
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([*lines, "", *notes(found, rows), ""])


def as_csv(found: SuiteScores, rows: Sequence[Row]) -> str:
    """A line a benchmark, metric and model."""
    out = io.StringIO()
    names = list(_values(found, "", "", "", Cell(0.0, None)))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for model, cell in row.cells.items():
            writer.writerow(_values(found, row.entry, row.metric, model, cell))
    return out.getvalue()


def as_dict(found: SuiteScores, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything as plain values, but the scores of each query, which have files of their own."""
    return {
        "models": found.whole,
        "rows": [
            _values(found, row.entry, row.metric, model, cell)
            for row in rows
            for model, cell in row.cells.items()
        ],
        "skipped": [
            {"benchmark": entry, "model": model, "why": why}
            for (entry, model), why in found.skipped.items()
        ],
        "published": [
            dict(zip(("benchmark", "metric", "model", "value", "source"), row, strict=True))
            for row in published_rows(found)
        ],
        "unknown": list(found.suite.unknown),
        "missing": list(found.suite.missing),
    }


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The last parts of the models' names, as many as tell them apart."""
    for count in range(1, 9):
        names = {model: "/".join(model.rstrip("/").split("/")[-count:]) for model in models}
        if len(set(names.values())) == len(models):
            return names
    return {model: model for model in models}


def _values(found: SuiteScores, entry: str, metric: str, column: str, cell: Cell) -> dict[str, Any]:
    mean, comparison = cell.mean, cell.comparison
    model, form = found.stored.get(column, (column, None))
    return {
        "benchmark": entry,
        "metric": metric,
        "model": model,
        "dim": None if form is None else form.dim,
        "dtype": None if form is None else form.dtype,
        "value": cell.value,
        "kept": cell.kept,
        "low": None if mean is None else mean.low,
        "high": None if mean is None else mean.high,
        "queries": None if mean is None else mean.queries,
        "difference": None if comparison is None else comparison.difference,
        "difference_low": None if comparison is None else comparison.low,
        "difference_high": None if comparison is None else comparison.high,
        "p": None if comparison is None else comparison.p_value,
        "p_holm": cell.p_holm,
    }


def _shown(row: Row, model: str) -> str:
    cell = row.cells.get(model)
    return "-" if cell is None else f"{cell.value:.4f}{cell.mark or ' '}{share(cell)}"


def share(cell: Cell) -> str:
    """The share that a stored form keeps, behind a space; empty of other cells."""
    return "" if cell.kept is None else f" {cell.kept:.1%}"


def _marked(cell: Cell | None) -> str:
    if cell is None:
        return ""
    value = f"**{cell.value:.4f}**" if cell.best else f"{cell.value:.4f}"
    interval = "" if cell.mean is None else f" ({cell.mean.low:.4f} to {cell.mean.high:.4f})"
    return f"{value}{interval} {cell.mark}".rstrip() + share(cell)


def _line(cells: Sequence[str], widths: Sequence[int], bold: Sequence[bool] | None = None) -> str:
    padded = [
        f"{cell:<{width}}" if at < 2 else f"{cell:>{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    if bold is not None:
        padded = [f"{BOLD}{c}{PLAIN}" if b else c for c, b in zip(padded, bold, strict=True)]
    return "  ".join(padded).rstrip()
