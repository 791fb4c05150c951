"""What a suite scores. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sciembed_train.errors import UserError
from sciembed_train.inference.options import Similarity


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
        embeddings: files of vectors to score beside the models, found by the ids of papers and
            queries; a benchmark of which such a file lacks some is skipped for it.
        similarity: compares the vectors of ``embeddings``; Euclidean distance by default.
        query_prompt: the name of each model's prompt before the words of searches, or ``none``; by
            default as `BenchmarkSettings` says.
        mteb_results: a folder of results of the library mteb, to show in the same table.

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
    embeddings: list[str] = field(default_factory=list)
    similarity: Similarity | None = None
    mteb_results: str | Path | None = None
    query_prompt: str | None = None

    def __post_init__(self) -> None:
        if not self.model and not self.embeddings and self.mteb_results is None:
            raise UserError("Give one --model or more to score, --embeddings or --mteb_results.")
        for option, names in (("model", self.model), ("embeddings", self.embeddings)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UserError(f"--{option} {twice[0]} is given twice; once is enough.")
        both = set(self.model) & set(self.embeddings)
        if both:
            raise UserError(f"{min(both)} is given as --model and as --embeddings; give one.")
        if self.similarity is not None and not self.embeddings:
            raise UserError(
                "--similarity goes with --embeddings; models are compared as each records."
            )
        if self.quick and self.full:
            raise UserError("--quick and --full are opposites; give one of them, or none.")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; expected 0 or more.")
