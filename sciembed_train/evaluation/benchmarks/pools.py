"""Judged pools: for each query a list of candidates with grades, which a system ranks.

The file is an object ``{query: {"cands": [paper, ...], "relevance_adju": [grade, ...]}}``.

Shapes: ``K`` candidates of one query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.corpus.readers.base import numbered
from sciembed_train.corpus.readers.files import COMPRESSED
from sciembed_train.corpus.readers.json_members import iter_json
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.systems import Search, System


@dataclass
class Corrections:
    """What was corrected while pools were read.

    Args:
        own: queries that were in their own pool, and were removed from it.
        twice: candidates that a pool names again with the same grade.
    """

    own: list[str] = field(default_factory=list)
    twice: int = 0

    def notes(self) -> list[str]:
        """Sentences on the corrections, for a reader of the scores."""
        notes = []
        if self.own:
            names = ", ".join(self.own[:10]) + (", ..." if len(self.own) > 10 else "")
            notes.append(f"Taken out of its own pool: query {names}.")
        if self.twice:
            notes.append(f"{self.twice} candidates are in a pool twice with one grade: used once.")
        return notes


def read_pools(path: Path, corrections: Corrections) -> Iterator[tuple[str, dict[str, int]]]:
    """Each query and the grades of its candidates, without the query itself; one pool in memory.

    Raises:
        UserError: the file is not of that form, a query comes twice, or a candidate has two grades
            in a pool.
    """
    seen: set[str] = set()
    for line, query, entry in iter_json(path):
        try:
            if query is None:
                raise ValueError("there is an entry that belongs to no query")
            if query in seen:
                raise ValueError(f"query {query} is given twice")
            seen.add(query)
            pool = _pool(query, entry["cands"], entry["relevance_adju"], corrections)
        except (KeyError, TypeError, ValueError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{path}{numbered(line)}: expected {{query: {{'cands': [papers], "
                f"'relevance_adju': [grades, 0 or more]}}}}; {what}."
            ) from error
        if pool.pop(query, None) is not None:
            corrections.own.append(query)
        yield query, pool


def _pool(query: str, papers: Any, grades: Any, corrections: Corrections) -> dict[str, int]:
    pool: dict[str, int] = {}
    if not isinstance(papers, list) or not isinstance(grades, list) or len(papers) != len(grades):
        raise ValueError(f"query {query} has not as many grades as candidates")
    for paper, grade in zip(map(str, papers), grades, strict=True):
        if isinstance(grade, bool) or not isinstance(grade, int) or grade < 0:
            raise ValueError(f"query {query} grades {paper} as {grade!r}")
        if pool.setdefault(paper, grade) != grade:
            raise ValueError(f"query {query} grades {paper} as {pool[paper]} and as {grade}")
    corrections.twice += len(papers) - len(pool)
    return pool


def pool_distances(
    system: System,
    papers: Mapping[str, Paper],
    pools: Sequence[tuple[str, Sequence[str]]],
    query_sentences: Sequence[Sequence[int] | None] | None = None,
    facet_sentences: Callable[[int, str], Sequence[int] | None] | None = None,
    query_ids: Sequence[str] | None = None,
    grades: Sequence[NDArray[np.integer]] | None = None,
) -> Iterator[Float32[np.ndarray, " K"]]:
    """The distance of each candidate of each pool to the query of the pool.

    ``papers`` holds every query and candidate by its id, and no other. ``query_ids`` name the
    queries of pools where a paper has several; else they are the ids of the papers. ``grades`` are
    those of each pool's candidates. ``query_sentences`` and ``facet_sentences`` are those of
    `Search`, the second by the paper's id.
    """
    ids = sorted(papers)
    row_of = {paper: row for row, paper in enumerate(ids)}
    rows = [np.array([row_of[p] for p in pool], dtype=np.int64) for _, pool in pools]
    search = Search(
        ((papers[i].title, papers[i].abstract) for i in ids),
        len(ids),
        np.array([row_of[query] for query, _ in pools]),
        np.arange(len(ids)),
        rows,
        query_sentences,
        None if facet_sentences is None else lambda at, row: facet_sentences(at, ids[row]),
        query_ids=[query for query, _ in pools] if query_ids is None else query_ids,
        paper_ids=ids,
        query_papers=[query for query, _ in pools],
        judged=None if grades is None else lambda at: (rows[at], grades[at]),
    )
    return system.distances(search)


def find_file(folder: Path, names: Sequence[str], remedy: str) -> Path:
    """The first file of these names, plain or compressed.

    Raises:
        UserError: there is none.
    """
    for name in names:
        for ending in ("", *COMPRESSED):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise UserError(f"{folder}: holds no {' or '.join(names)} (.gz, .zst); {remedy}.")


def read_json(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}).") from error
