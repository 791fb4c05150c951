"""The scores of a model, a baseline or a ranking on a benchmark, for people and for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

MAX_COLUMNS = 6  # facets or tasks that stand beside each other in a table


@dataclass(frozen=True, repr=False)
class Scores:
    """Scores on one benchmark; in a notebook they show as a table.

    Args:
        benchmark: its name.
        model: the name of what was scored.
        metrics: ``<facet or task>/<metric>`` to value; the metric's name carries its form.
        per_query: metrics of each query by the same names, without the facet or task.
        settings: what the numbers depend on, and counts.
        notes: sentences that a reader of the numbers should know.
        warning: why they say too much, such as queries that the model was trained on.
        query_texts: title or words of queries, by the names in ``per_query``.
        test_queries: those that the metrics are of; None for all in ``per_query``.

    Example:
        >>> scores = Scores("citations", "bm25", {"citations/map": 0.25}, {}, {"queries": 3}, ())
        >>> scores["citations/map"]
        0.25
        >>> print(scores)
        citations: bm25
        <BLANKLINE>
        metric   citations
        map         0.2500
        <BLANKLINE>
        3 queries.
    """

    benchmark: str
    model: str
    metrics: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warning: str | None = None
    query_texts: Mapping[str, str] = field(default_factory=dict)
    test_queries: Sequence[str] | None = None

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def tested(self) -> Mapping[str, Mapping[str, float]]:
        """``per_query`` of the queries that the metrics are of."""
        if self.test_queries is None:
            return self.per_query
        return {query: self.per_query[query] for query in self.test_queries}

    def as_dict(self) -> dict[str, Any]:
        """The content of a results file."""
        return {
            "benchmark": self.benchmark,
            "model": self.model,
            "metrics": dict(self.metrics),
            "per_query": dict(self.per_query),
            "settings": {
                **self.settings,
                "notes": list(self.notes),
                **({} if self.warning is None else {"warning": self.warning}),
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Scores:
        """The scores of which `as_dict` gave the content.

        It may have ``query_texts`` and ``test_queries`` too.

        Raises:
            KeyError: it is other content.
        """
        settings = dict(content["settings"])
        notes, warning = settings.pop("notes"), settings.pop("warning", None)
        return cls(
            content["benchmark"],
            content["model"],
            content["metrics"],
            content["per_query"],
            settings,
            tuple(notes),
            warning,
            content.get("query_texts", {}),
            content.get("test_queries"),
        )

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The cells of a table: its columns' titles, and its rows.

        One row a metric and one column a facet or task; with more than `MAX_COLUMNS` of these, one
        row a facet or task and metric.
        """
        tasks = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in self.metrics))
        names = list(dict.fromkeys(key.rsplit("/", 1)[1] for key in self.metrics))
        if len(tasks) > MAX_COLUMNS:
            return [], [[key, f"{value:.4f}"] for key, value in self.metrics.items()]
        values = [[self.metrics.get(f"{task}/{name}") for task in tasks] for name in names]
        cells = [["" if value is None else f"{value:.4f}" for value in row] for row in values]
        return ["metric", *tasks], [[name, *row] for name, row in zip(names, cells, strict=True)]

    def footnote(self) -> str:
        """The number of queries, where the benchmark counts them, and the notes."""
        queries = self.settings.get("queries")
        return " ".join([*([] if queries is None else [f"{queries} queries."]), *self.notes])

    def __str__(self) -> str:
        titles, rows = self.rows()
        table = [titles, *rows] if titles else rows
        first = max((len(row[0]) for row in table), default=0)
        widths = [max(10, len(title)) for title in titles[1:]] or [10]
        lines = [
            "  ".join(
                [
                    f"{row[0]:<{first}}",
                    *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True)),
                ]
            )
            for row in table
        ]
        end = [] if self.warning is None else [f"warning: {self.warning}"]
        return "\n".join([f"{self.benchmark}: {self.model}", "", *lines, "", self.footnote(), *end])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        titles, rows = self.rows()
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return (
            f"<p><b>{escape(self.benchmark)}</b>: {escape(self.model)}</p>"
            f"<table><tr>{head}</tr>{body}</table><p>{escape(self.footnote())}</p>"
            + ("" if self.warning is None else f"<p><b>Warning</b>: {escape(self.warning)}</p>")
        )
