"""Papers of a collection that ask for others of it: every query ranks all other papers.

Shapes: ``N`` papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import read_id
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import TIED, Result, counted, mean
from sciembed_train.evaluation.candidates import draw_candidates, hash_order
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.ranking import (
    TIE_RULES,
    Ranked,
    TieRule,
    rank_judged,
    tie_order,
)
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.paper_file import PaperFile


@dataclass(frozen=True)
class Draw:
    """How much of a collection is scored, drawn by a hash of seed and id; 0 for all.

    Args:
        queries: most queries.
        papers: most candidates, with fewer queries (`draw_candidates`).
        seed: of the hashes.
        asked: whether the query of an id may be drawn; None for all.
    """

    queries: int = 0
    papers: int = 0
    seed: int = 0
    asked: Callable[[str], bool] | None = None

    @classmethod
    def of(cls, settings: EvaluateSettings) -> Draw:
        """What the settings ask for; all candidates where they do not say."""
        return cls(settings.queries, settings.sample or 0, settings.seed)


ALL = Draw()


@dataclass
class Asking:
    """Which papers of a collection ask, and what is relevant to each.

    Args:
        papers: the collection.
        grades: query paper to its judged papers' grades, all of them candidates.
        candidates: ids of the papers that are ranked.
        used: ids of candidates and queries, in the order of the collection.
        left_out: counts of what was left out, by the key of the results file.
    """

    papers: PaperFile
    grades: dict[str, dict[str, int]]
    candidates: list[str]
    used: list[str]
    left_out: dict[str, int]

    @classmethod
    def of(
        cls,
        papers: PaperFile,
        grades: Mapping[str, Mapping[str, int]],
        threshold: int,
        draw: Draw = ALL,
    ) -> Asking:
        """Those whose query and judged papers are in the collection.

        Args:
            papers: the collection.
            grades: of judged papers by query, a paper of the collection or not.
            threshold: least grade that is relevant; queries without such a paper are left out.
            draw: how much of it is scored.
        """
        ids = [paper.paper_id for paper in papers]
        row_of = {paper: row for row, paper in enumerate(ids)}
        kept: dict[str, dict[str, int]] = {}
        unknown = without = 0
        for query, row in grades.items():
            there = {p: g for p, g in row.items() if p in row_of and p != query}
            unknown += sum(p not in row_of for p in row) + (query not in row_of)
            if query in row_of and max(there.values(), default=0) >= threshold:
                kept[query] = there
            else:
                without += 1
        names = [query for query in kept if draw.asked is None or draw.asked(query)]
        drawn = list(range(len(names)))
        if draw.queries:
            drawn = sorted(hash_order(names, draw.seed)[: draw.queries])
        chosen = {names[at]: kept[names[at]] for at in drawn}
        candidates = ids
        if chosen and draw.papers and draw.papers < len(ids):
            relevant = [
                np.array([row_of[p] for p, grade in row.items() if grade >= threshold])
                for row in chosen.values()
            ]
            few, places = draw_candidates(ids, list(chosen), relevant, draw.papers, draw.seed)
            candidates = [ids[place] for place in places]
            among, asking = set(candidates), list(chosen)
            chosen = {
                asking[at]: {p: g for p, g in chosen[asking[at]].items() if p in among}
                for at in few
            }
        left_out = {
            "unknown_papers_left_out": unknown,
            "queries_without_relevant_left_out": without,
            "queries_not_drawn": len(kept) - len(chosen),
            "papers_not_drawn": len(ids) - len(candidates),
        }
        used = ids
        if candidates is not ids:
            used = sorted({*candidates, *chosen}, key=row_of.__getitem__)
        return cls(papers, chosen, candidates, used, left_out)

    def titles(self) -> dict[str, str]:
        """The title of each query."""
        return {p.paper_id: p.title or "" for p in self.papers if p.paper_id in self.grades}

    def rank(self, system: System, ties: TieRule) -> Iterator[tuple[str, Ranked]]:
        """Each query and the ranks of its judged papers among all candidates but itself.

        Papers without a text are ranked all the same.
        """
        candidate_of = {paper: row for row, paper in enumerate(self.candidates)}
        text_of = {paper: row for row, paper in enumerate(self.used)}
        texts = ((p.title, p.abstract) for p in self.papers if p.paper_id in text_of)
        queries = np.array([text_of[query] for query in self.grades], dtype=np.int64)
        places = np.array([text_of[paper] for paper in self.candidates], dtype=np.int64)
        rows = list(self.grades.values())

        def judged(at: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            wanted = [candidate_of[paper] for paper in rows[at]]
            return np.array(wanted, np.int64), np.array(list(rows[at].values()), np.int64)

        search = Search(
            texts,
            len(self.used),
            queries,
            places,
            query_ids=list(self.grades),
            paper_ids=self.candidates,
            judged=judged,
        )
        order = tie_order(self.candidates, ties)
        for at, (query, distances) in enumerate(
            zip(self.grades, system.distances(search), strict=True)
        ):
            yield query, rank_judged(distances, *judged(at), order, candidate_of.get(query))


def score_asking(
    asking: Asking,
    system: System,
    benchmark: str,
    measure: Callable[[Ranked], dict[str, float]],
    ties: TieRule,
    settings: Mapping[str, Any],
) -> Result:
    """The scores of a system: the metrics of each query's ranking, and their means.

    Args:
        asking: queries and candidates.
        system: model or baseline.
        benchmark: stands before the names of the metrics.
        measure: the metrics of a ranking.
        ties: how papers at equal distances are ordered.
        settings: what else the numbers depend on.
    """
    per_query: dict[str, dict[str, float]] = {}
    tied = 0
    for query, ranked in asking.rank(system, ties):
        per_query[query] = measure(ranked)
        tied += ranked.tied
    note = "{} papers have no text; they are ranked all the same."
    return Result(
        {f"{benchmark}/{name}": value for name, value in mean(per_query.values()).items()},
        per_query,
        {
            "queries": len(per_query),
            "papers": len(asking.candidates),
            **asking.left_out,
            **settings,
            "ties": TIE_RULES[ties],
            "queries_tied": tied,
        },
        counted({note: asking.papers.without_text, TIED: tied}),
        query_texts=asking.titles(),
    )


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
