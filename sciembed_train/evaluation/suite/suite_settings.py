"""What a suite scores. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from sciembed_train.errors import UserError
from sciembed_train.inference.options import Dtype, Similarity, check_dtype


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
            default that of queries, and where the model has none that of papers.
        mteb_results: a folder of results of the library mteb, to show in the same table.
        dim: numbers of shorter vectors: each adds a column to every model with one vector a text,
            by the first so many numbers of the same vectors, with the share of its score that is
            kept. With ``dtype``, one for each pair too.
        dtype: how numbers are stored, ``float16``, ``int8`` or ``binary``, as ``embed`` stores them
            (ranges of int8 are those of the first 1,024 candidates): each adds such a column.

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
    dim: list[int] = field(default_factory=list)
    dtype: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.model and not self.embeddings and self.mteb_results is None:
            raise UserError("Give one --model or more to score, --embeddings or --mteb_results.")
        for dim in self.dim:
            if dim < 1:
                raise UserError(f"--dim is {dim}; expected 1 or more.")
        for dtype in self.dtype:
            check_dtype(dtype)
        several: dict[str, list[Any]] = {
            **{"model": self.model, "embeddings": self.embeddings},
            **{"dim": self.dim, "dtype": self.dtype},
        }
        for option, names in several.items():
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

    @property
    def dtypes(self) -> list[Dtype]:
        """``dtype``, as it was checked."""
        return cast(list[Dtype], self.dtype)
