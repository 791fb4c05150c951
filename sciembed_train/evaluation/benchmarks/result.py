"""What a benchmark gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import Embedder
from sciembed_train.evaluation.systems import System

TIED = "{} queries have relevant papers and others at one distance."  # of `Ranked.tied`


class NoQueriesError(UserError):
    """A benchmark has no query that can be scored."""


@dataclass
class Result:
    """Scores of one system on one benchmark, or on one task of it.

    Args:
        metrics: ``<facet or task>/<name>`` to value; the name carries the metric's form.
        per_query: metrics of each query or few-shot run, without the facet or task.
        settings: what the numbers depend on, and counts.
        notes: sentences that a reader of the numbers should know.
        nearest: ids of the nearest papers of the queries for which they were asked for.
        query_texts: title or words of queries, by the names in ``per_query``.
        test_queries: those that the metrics are of, where ``per_query`` has others too.
    """

    metrics: dict[str, float]
    per_query: dict[str, dict[str, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    nearest: dict[str, list[str]] = field(default_factory=dict)
    query_texts: dict[str, str] = field(default_factory=dict)
    test_queries: list[str] | None = None

    def by_query(self, metric: str) -> dict[str, float]:
        """One metric of each query."""
        return {query: row[metric] for query, row in self.per_query.items()}


def described(system: System | Embedder, result: Result) -> tuple[str, Result]:
    """The system's name, and the result with the system's settings and notes in it."""
    result.settings = {**system.describe(), **result.settings}
    result.notes += system.notes
    return system.name, result


def counted(notes: Mapping[str, int]) -> list[str]:
    """The notes whose count is not 0, each with its count: at the end, or in place of ``{}``."""
    return [
        note.format(count) if "{}" in note else f"{note}: {count}."
        for note, count in notes.items()
        if count
    ]


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over queries (or folds)."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}
