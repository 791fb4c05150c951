"""Rankings as files in TREC's form: read as a system of its own, written of what a system ranks.

A line is ``query Q0 paper rank score tag`` with a higher score for a nearer paper. As in trec_eval
the scores alone order the papers, in float32, and the ranks that a file names count for nothing.

Shapes: ``K`` papers of one query's pool, ``N`` papers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.evaluation.ranking import id_order
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.output_file import whole_file

MOST_PAPERS = 1000  # of a query in a run that is written
COLUMNS = "query Q0 paper rank score tag"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class RunRanking:
    """Papers ranked by the scores of a run; those that the run lacks come last, at one distance.

    Args:
        path: of the run.

    Raises:
        UserError: as `read_run`.
    """

    path: str | Path
    by_sentence: ClassVar[bool] = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = str(self.path)
        self.scores, self.tag = read_run(Path(self.path))

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return {"ranked_by": "the scores of a TREC run", "run_tag": self.tag}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`.

        Raises:
            UserError: the run has no query of the search.
        """
        query_ids, paper_ids = search.ids()
        asked = [query for query in query_ids if query in self.scores]
        if not asked:
            raise UserError(
                f"{self.path} ranks papers for {len(self.scores):,} queries, such as "
                f"{next(iter(self.scores))}, and none of them is asked: queries here are such as "
                f"{query_ids[0]}. Give the run of this benchmark."
            )
        position_of = {paper: at for at, paper in enumerate(paper_ids)}
        to_rank = lacking = unknown = 0
        for at, (query, own) in enumerate(zip(query_ids, search.queries, strict=True)):
            row = np.full(len(paper_ids), np.inf, dtype=np.float32)
            scores = self.scores.get(query, {})
            for paper, score in scores.items():
                if paper in position_of:
                    row[position_of[paper]] = -score
            pool = search.pool(at)
            candidates = pool[search.papers[pool] != own]
            ranked = int(np.isfinite(row[candidates]).sum())
            itself = int(np.isfinite(row[search.papers == own]).sum())
            to_rank += len(candidates)
            lacking += len(candidates) - ranked
            unknown += len(scores) - itself - ranked
            yield row[pool]
        others = len(self.scores) - len(asked)
        notes = {
            f"{len(query_ids) - len(asked):,} of {len(query_ids):,} queries are not in the run: "
            "their papers are all at one distance.": len(query_ids) - len(asked),
            f"{lacking:,} of {to_rank:,} places in the rankings are of papers that the run lacks: "
            "they come last, at one distance (trec_eval gives them no place).": lacking,
            f"{unknown:,} papers of the run are no candidates of its queries: left out.": unknown,
            f"{others:,} queries of the run are not asked: left out.": others,
        }
        self.notes = [note for note, count in notes.items() if count]


class WrittenRun:
    """A system whose rankings are written as a run: a `System` with its name and notes.

    The file is there, whole, when the last distances have been taken; before and otherwise not.

    Args:
        system: what ranks.
        path: of the run.
    """

    def __init__(self, system: System, path: str | Path) -> None:
        self.system, self.path = system, Path(path)
        self.name, self.by_sentence = system.name, system.by_sentence

    @property
    def notes(self) -> list[str]:
        """See `System`."""
        return self.system.notes

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return self.system.describe()

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`.

        Raises:
            UserError: an id has blanks, which end a column of a run.
            RunError: the disk is full.
        """
        query_ids, paper_ids = search.ids()
        for kind, ids in (("query", query_ids), ("paper", paper_ids)):
            if blank := [name for name in ids if len(name.split()) != 1]:
                raise UserError(
                    f"The {kind} id {blank[0]!r} has blanks, and a TREC run cannot hold it; give "
                    "ids without any, or leave --run_to out."
                )
        order, tag = -id_order(paper_ids), "_".join(self.name.split())
        safe = "Make room and run the same command again."
        with told_full_disk(self.path, safe), whole_file(self.path) as file:
            for at, distances in enumerate(self.system.distances(replace(search, judged=None))):
                yield distances
                pool = search.pool(at)
                is_candidate = (search.papers[pool] != search.queries[at]) & np.isfinite(distances)
                pool, distances = pool[is_candidate], distances[is_candidate]
                nearest = _first(distances, order[pool])
                papers, scores = pool[nearest].tolist(), 0 - distances[nearest]  # no -0.0
                for rank, (paper, score) in enumerate(zip(papers, scores, strict=True), 1):
                    file.write(f"{query_ids[at]} Q0 {paper_ids[paper]} {rank} {score!s} {tag}\n")


def _first(
    distances: NDArray[np.floating], order: Int64[np.ndarray, " K"]
) -> Int64[np.ndarray, " _"]:
    """The `MOST_PAPERS` nearest, best first, equal ones by ``order``; not all are sorted."""
    near = np.arange(len(distances))
    if len(distances) > MOST_PAPERS:
        last = np.partition(distances, MOST_PAPERS - 1)[MOST_PAPERS - 1]
        near = np.flatnonzero(distances <= last)
    return near[np.lexsort((order[near], distances[near]))][:MOST_PAPERS]


def is_run(path: str | Path) -> bool:
    """Whether a file's first line has the columns of a run."""
    path = Path(path)
    if not path.is_file() or path.suffix == ".json":
        return False
    _, line = next(iter(read_lines(path)), (0, ""))
    return isinstance(line, str) and len(line.split()) == len(COLUMNS.split())


def read_run(path: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Query to paper to score, and the tag of the first line.

    Raises:
        UserError: the file is missing or empty, a line has other columns or no score, or ranks a
            paper of a query again.
    """
    if not path.is_file():
        raise UserError(f"{path}: {why_no_file(path)} (--ranking).")
    scores: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in read_lines(path):
        if not isinstance(line, str):
            raise UserError(f"{path}:{number}: {line.message}")
        columns = line.split()
        if len(columns) != len(COLUMNS.split()):
            raise UserError(
                f"{path}:{number}: expected the six columns of a TREC run, `{COLUMNS}`, found "
                f"{len(columns)}: {_shown(line)}."
            )
        query, _, paper, _, text, line_tag = columns
        tag = tag or line_tag
        row = scores.setdefault(query, {})
        if paper in row:
            raise UserError(
                f"{path}:{number}: ranks paper {paper} for query {query} again; expected it once."
            )
        row[paper] = _score(text, f"{path}:{number}")
    if not scores:
        raise UserError(f"{path}: is empty; expected lines `{COLUMNS}`.")
    return scores, tag


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = np.nan
    if not abs(score) <= _LARGEST:
        raise UserError(
            f"{place}: the score is {_shown(text)}; expected a number, higher for a nearer paper "
            f"(`{COLUMNS}`)."
        )
    return score


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
