"""What a suite scores. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class SuiteSettings:
    """Models, and the benchmarks that score them.

    Args:
        suite: a folder with a folder for each benchmark, recognised by its files; or a YAML file
            with a list ``benchmarks`` of ``benchmark``, ``data``, and the benchmark's options.
        to: the folder for scores, tables and the report; what it has already is not computed again.
        model: models to score: folders, run folders, hub names, ``bm25``, ``random``; the first is
            what the others are compared with.
        only: names of benchmarks, or of entries of the suite, to score; all where it is empty.
        quick: score a seeded sample of every set.
        full: score all papers where a benchmark draws a sample by itself.
        published: also show what others published on the benchmarks of the suite, with sources.
        ties: how papers at equal distances are ordered: ``expected`` takes the expectation over all
            orders, ``paper_id`` and ``trec_eval`` sort them by id.
        seed: of the baseline ``random`` and of every sample.

    Raises:
        UserError: a value is out of its range, or two settings do not go together.
    """

    suite: str | Path
    to: str | Path
    model: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    quick: bool = False
    full: bool = False
    published: bool = False
    ties: Literal["expected", "paper_id", "trec_eval"] = "expected"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("Give one --model or more to score.")
        twice = sorted({model for model in self.model if self.model.count(model) > 1})
        if twice:
            raise UserError(f"--model {twice[0]} is given twice; once is enough.")
        if self.quick and self.full:
            raise UserError("--quick and --full are opposites; give one of them, or none.")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; expected 0 or more.")
