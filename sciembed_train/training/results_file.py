"""``results.json`` of a run: the verdict and its evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sciembed_train.training.verdict import AlphaChoice, Verdict

NAME = "results.json"


@dataclass
class Results:
    """The content of ``results.json``.

    Args:
        verdict: start and trained encoder on test queries.
        start: the start encoder: ``name``, ``pooling``, ``max_length``, ``similarity``; and the
            ``precision`` in which both are scored.
        choice: of the share of trained weights, on dev queries; None where none was chosen.
        choice_note: why none was.
        bm25: BM25's means on the test queries, by target and guard.
        advice: settings to try where it is worse.
        notes: what was left out, and what a reader should know.
        queries: score of each test query before and after, by target and guard.
        metrics: what the queries of target and guards are scored by, by name.
        neighbours: nearest papers before and after, of some test queries.
        projection: what a projection was learned from, and how; None where none was.
        run: step, monitor and score of the checkpoint.
        settings: of the end of the run, that are not those of the training.
    """

    verdict: Verdict
    start: dict[str, Any]
    choice: AlphaChoice | None = None
    choice_note: str | None = None
    bm25: dict[str, float] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    queries: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    projection: dict[str, Any] | None = None
    run: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "verdict": self.verdict.as_dict(),
            "start": self.start,
            "alpha": None if self.choice is None else self.choice.as_dict(),
            "alpha_note": self.choice_note,
            "bm25": self.bm25,
            "advice": self.advice,
            "notes": self.notes,
            "projection": self.projection,
            "run": self.run,
            "settings": self.settings,
            "metrics": self.metrics,
            "queries": self.queries,
            "neighbours": self.neighbours,
        }

    def for_card(self) -> dict[str, Any]:
        """The part for an export's record: without paths and queries."""
        verdict = self.verdict
        return {
            "line": verdict.line,
            "outcome": verdict.outcome,
            "start": self.start["name"],
            "alpha": verdict.alpha,
            "target": verdict.target,
            "scores": {
                name: {
                    "metric": self.metrics[name],
                    "before": c.before,
                    "after": c.after,
                    "low": c.low,
                    "high": c.high,
                    "queries": c.queries,
                    "bm25": self.bm25.get(name),
                }
                for name, c in verdict.comparisons.items()
            },
        }


def read_results(folder: Path) -> dict[str, Any] | None:
    """The content of a run's ``results.json``; None where there is none that can be read."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) and "verdict" in content else None
    except (OSError, ValueError):
        return None
