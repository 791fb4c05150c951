"""Scores that others published, of `published.yaml`, beside which those of `evaluate` stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """The published scores of one model on one benchmark.

    Args:
        benchmark: its name in the registry.
        model: as its source names it.
        metrics: name to value, between 0 and 1; the names are those of `Scores.metrics`, but for
            what is not scored here.
        source: the file that the numbers are from.
        note: what to know of them; may be empty.
    """

    benchmark: str
    model: str
    metrics: Mapping[str, float]
    source: str
    note: str


def published(benchmark: str | None = None) -> list[Published]:
    """The published scores on a benchmark, perhaps none; on all benchmarks where it is None."""
    return [
        Published(
            benchmark=table["benchmark"],
            model=model,
            metrics={name: value / 100 for name, value in zip(table["metrics"], row, strict=True)},
            source=table["source"],
            note=table.get("note", ""),
        )
        for table in yaml.safe_load(FILE.read_text(encoding="utf-8"))
        if benchmark in (None, table["benchmark"])
        for model, row in table["rows"].items()
    ]
