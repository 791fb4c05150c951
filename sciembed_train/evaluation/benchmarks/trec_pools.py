"""Judged pools of benchmarks that their originals score by pytrec_eval: SciDocs, MDCR.

Each query has the standard form, ranked by unrounded distances, and ``original_<metric>`` beside
it, what the original's program makes of the same vectors: ties by paper id, from the last to the
first. In both a candidate without a text is not ranked, a relevant one of them counts as missed,
and a query without a text is in no mean, as in pytrec_eval.

Shapes: ``K`` candidates of one query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import TIED, Result, counted, mean
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import ranked_metric
from sciembed_train.evaluation.ranking import TIE_RULES, TieRule, rank_pool

# What is left out of the numbers, or odd in them, by the count in the settings.
NOTES = {
    "queries_without_their_text": "{} queries are not among the papers: left out.",
    "queries_without_candidates_texts": "{} queries have no candidate among the papers: left out.",
    "candidates_without_their_text": (
        "{} candidates are not among the papers: not ranked, a relevant one counts as missed."
    ),
    "own_pool_left_out": (
        "{} queries were in their own pool: taken out of it; the original ranks them there."
    ),
    "papers_with_empty_text": "{} papers have no text; they are ranked all the same.",
    "queries_without_relevant": "{} queries have no relevant candidate; they score 0.",
    "queries_tied": TIED,
}

# Of each pool in turn, the distances that the standard form and the original's rank by, ``[K]``.
PoolDistances = Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]
Distances = Callable[[Mapping[str, Paper], Sequence[tuple[str, Sequence[str]]]], PoolDistances]


@dataclass(frozen=True)
class TrecPool:
    """The judged candidates of a query.

    Args:
        group: the task or field whose mean the query is in.
        query: a paper.
        grades: by candidate, 1 where it is relevant.
    """

    group: str
    query: str
    grades: Mapping[str, int]

    @property
    def name(self) -> str:
        """Of the query in the scores; a paper may ask in several groups."""
        return f"{self.group}/{self.query}"


def papers_in(pools: Sequence[TrecPool]) -> set[str]:
    """Every query and candidate."""
    return {paper for pool in pools for paper in (pool.query, *pool.grades)}


def score_pools(
    pools: Sequence[TrecPool],
    papers: Mapping[str, Paper],
    distances: Distances,
    metrics: Sequence[str],
    ties: TieRule,
) -> Result:
    """The scores of all pools: of each query, the mean of each group, and the mean of the groups.

    Args:
        pools: in the order of the results.
        papers: by id, queries and candidates among them.
        distances: of the candidates of each pool, by papers and ``(query, candidates)``; it is
            given every paper that it needs, and no other.
        metrics: by the names that pytrec_eval gives them.
        ties: how candidates at equal distances are ordered in the standard form.

    Raises:
        UserError: no query is among the papers, with a candidate.
    """
    ranked_pools: list[TrecPool] = []
    asked: list[tuple[str, list[str]]] = []
    lost: set[str] = set()
    counts = dict.fromkeys(NOTES, 0)
    for pool in pools:
        counts["own_pool_left_out"] += pool.query in pool.grades
        grades = {paper: grade for paper, grade in pool.grades.items() if paper != pool.query}
        there = [paper for paper in grades if paper in papers]
        lost |= grades.keys() - papers.keys()
        counts["queries_without_their_text"] += pool.query not in papers
        counts["queries_without_candidates_texts"] += pool.query in papers and not there
        if pool.query in papers and there:
            ranked_pools.append(TrecPool(pool.group, pool.query, grades))
            asked.append((pool.query, there))
    if not asked:
        raise UserError(
            "No query is among the papers and has a candidate that is; the ids of papers and "
            "judgements must be the same. Give the file of papers with --papers."
        )
    used = {p: papers[p] for query, there in asked for p in (query, *there)}
    counts["candidates_without_their_text"] = len(lost)
    counts["papers_with_empty_text"] = sum(
        not has_text(paper.title, paper.abstract) for paper in used.values()
    )
    forms = {name: ranked_metric(name) for name in metrics}
    per_query: dict[str, dict[str, float]] = {}
    for pool, (_, there), (standard, original) in zip(
        ranked_pools, asked, distances(used, asked), strict=True
    ):
        grades = [pool.grades[paper] for paper in there]
        judged = np.array(list(pool.grades.values()), dtype=np.int64)
        ranked = rank_pool(standard, grades, there, ties)
        as_original = rank_pool(original, grades, there, "trec_eval")
        per_query[pool.name] = {form: metric(ranked, judged) for form, metric in forms.values()} | {
            f"original_{name}": metric(as_original, judged) for name, (_, metric) in forms.items()
        }
        counts["queries_tied"] += ranked.tied
        counts["queries_without_relevant"] += bool((judged < 1).all())
    groups = list(dict.fromkeys(pool.group for pool in ranked_pools))
    means = {
        group: mean(per_query[pool.name] for pool in ranked_pools if pool.group == group)
        for group in groups
    }
    means["average"] = mean(means.values())
    return Result(
        {f"{group}/{name}": value for group, row in means.items() for name, value in row.items()},
        per_query,
        {
            "queries": len(per_query),
            "queries_by_group": {
                group: sum(pool.group == group for pool in ranked_pools) for group in groups
            },
            "papers": len(used),
            "ties": TIE_RULES[ties],
            **counts,
        },
        counted({note: counts[key] for key, note in NOTES.items()}),
        query_texts={pool.name: used[pool.query].title or "" for pool in ranked_pools},
    )
