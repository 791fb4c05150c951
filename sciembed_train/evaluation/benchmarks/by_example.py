"""Papers of a collection that ask for others of it: every query ranks all other papers.

Shapes: ``N`` papers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import read_id
from sciembed_train.errors import UserError
from sciembed_train.evaluation.candidates import hash_order
from sciembed_train.evaluation.ranking import Ranked, TieRule, rank_judged, tie_order
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.paper_file import PaperFile

MOST_QUERIES = 1000


@dataclass
class Asking:
    """Which papers of a collection ask, and what is relevant to each.

    Args:
        papers: the collection; read twice.
        grades: query paper to its judged papers' grades, all of them in the collection.
        left_out: counts of what was left out, by the key of the results file.
    """

    papers: PaperFile
    grades: dict[str, dict[str, int]]
    left_out: dict[str, int]

    @classmethod
    def of(
        cls,
        papers: PaperFile,
        grades: Mapping[str, Mapping[str, int]],
        threshold: int,
        most: int = MOST_QUERIES,
        seed: int = 0,
    ) -> Asking:
        """Those whose query and judged papers are in the collection.

        Args:
            papers: the collection.
            grades: of judged papers by query, a paper of the collection or not.
            threshold: least grade that is relevant; queries without such a paper are left out.
            most: most queries, drawn by a hash of seed and id; 0 for all.
            seed: of the draw.
        """
        known = {paper.paper_id for paper in papers}
        kept: dict[str, dict[str, int]] = {}
        unknown = without = 0
        for query, row in grades.items():
            there = {p: g for p, g in row.items() if p in known and p != query}
            unknown += sum(p not in known for p in row) + (query not in known)
            if query in known and max(there.values(), default=0) >= threshold:
                kept[query] = there
            else:
                without += 1
        names = list(kept)
        drawn = sorted(hash_order(names, seed)[:most]) if most else range(len(names))
        left_out = {
            "unknown_papers_left_out": unknown,
            "queries_without_relevant_left_out": without,
            "queries_not_drawn": len(names) - len(drawn),
        }
        return cls(papers, {names[at]: kept[names[at]] for at in drawn}, left_out)

    def titles(self) -> dict[str, str]:
        """The title of each query."""
        return {p.paper_id: p.title or "" for p in self.papers if p.paper_id in self.grades}

    def rank(self, system: System, ties: TieRule) -> Iterator[tuple[str, Ranked]]:
        """Each query and the ranks of its judged papers among all papers but itself.

        Papers without a text are ranked all the same.
        """
        ids = [paper.paper_id for paper in self.papers]
        row_of = {paper: row for row, paper in enumerate(ids)}
        texts = ((paper.title, paper.abstract) for paper in self.papers)
        queries = np.array([row_of[query] for query in self.grades], dtype=np.int64)
        search = Search(
            texts,
            len(ids),
            queries,
            np.arange(len(ids)),
            query_ids=list(self.grades),
            paper_ids=ids,
        )
        order = tie_order(ids, ties)
        for (query, row), distances in zip(
            self.grades.items(), system.distances(search), strict=True
        ):
            wanted = np.array([row_of[paper] for paper in row], dtype=np.int64)
            grades = np.array(list(row.values()), dtype=np.int64)
            yield query, rank_judged(distances, wanted, grades, order, row_of[query])


def read_rows(path: Path, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a small table, each with its place for messages.

    Raises:
        UserError: a row cannot be read.
    """
    table = Table(path, kind)
    for at, row in table.rows():
        if isinstance(row, BadRow):
            raise UserError(f"{table.where(at)}: {row.message} Correct the row.")
        yield table.where(at), row


def cell_id(place: str, row: Mapping[str, Any], field: str) -> str:
    """The id in a field of a row.

    Raises:
        UserError: there is none.
    """
    try:
        return read_id(row.get(field), field)
    except BadRow as bad:
        raise UserError(f"{place}: {bad.message} Correct the row.") from bad


def cell_number(place: str, row: Mapping[str, Any], field: str) -> int:
    """The whole number, 0 or more, in a field of a row.

    Raises:
        UserError: there is none.
    """
    try:
        number = float(row.get(field, ""))
        if not number.is_integer() or number < 0:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{place}: `{field}` is {row.get(field)!r}; expected a whole number, 0 or more."
        ) from error
    return int(number)
