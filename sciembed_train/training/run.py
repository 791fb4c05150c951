"""A run, as its folder shows it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sciembed_train.training.results_file import read_results


@dataclass(frozen=True, repr=False)
class Run:
    """The folder of a run and its scores; in a notebook it shows as a table.

    Args:
        folder: where everything of it is.
        checkpoint: ``best.ckpt``, else ``last.ckpt``; None where neither was written.
        export: the exported encoder, ready for `load_encoder`; None where none was written.
        step: the last optimiser step that ``metrics.csv`` knows.
        scores: the last validation scores, by names such as ``val/map``.
        verdict: the last line of the run, on it and its start; None where it has none.
    """

    folder: Path
    checkpoint: Path | None
    export: Path | None
    step: int
    scores: Mapping[str, float]
    verdict: str | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder; FileNotFoundError if there is none."""
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of a run")
        checkpoints = [folder / name for name in ("best.ckpt", "last.ckpt")]
        export, metrics = folder / "export", folder / "metrics.csv"
        step, scores = _last(metrics) if metrics.is_file() else (0, {})
        results = read_results(folder)
        return cls(
            folder=folder,
            checkpoint=next((path for path in checkpoints if path.is_file()), None),
            export=export if export.is_dir() else None,
            step=step,
            scores=scores,
            verdict=None if results is None else results["verdict"]["line"],
        )

    @property
    def report(self) -> Path:
        """The page of the run: curves, data, settings."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return f"Run({self.folder}, step {self.step:,}{': ' if scores else ''}{scores})"

    def _repr_html_(self) -> str:
        facts = {
            "checkpoint": self.checkpoint or "none",
            "export": self.export or "none",
            "report": self.report,
            "steps": f"{self.step:,}",
            **{name: f"{value:.4f}" for name, value in self.scores.items()},
            **({} if self.verdict is None else {"verdict": self.verdict}),
        }
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in facts.items()
        )
        return f"<p><b>Run</b> {escape(str(self.folder))}</p><table>{rows}</table>"


def _last(path: Path) -> tuple[int, dict[str, float]]:
    """The last step of a ``metrics.csv``, and the last value of each validation score."""
    step, scores = 0, {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                step = max(step, int(row["step"]))
                values = {n: float(v) for n, v in row.items() if v and n.startswith("val/")}
            except (KeyError, TypeError, ValueError):  # a line that a killed process left
                continue
            scores |= {name: value for name, value in values.items() if not math.isnan(value)}
    return step, scores
