"""Proximity and search: judged candidates ranked by the distance of their vectors to the query's.

The files often name the relevant candidates first, and their ids may follow that: so where
candidates are at equal distances, a metric is its expectation over their orders, and vectors that
tell nothing score as chance does. trec_eval's rule, by ids, is there on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import TIED, Result, counted, mean
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_files import (
    Pools,
    read_judgements,
    read_reviewers,
)
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import FORMATS_OF, Task
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Vectors
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import ranked_metric
from sciembed_train.evaluation.ranking import TieRule, rank_pool
from sciembed_train.inference.options import Similarity
from sciembed_train.losses.similarity import pairwise_euclidean

TOP_PAPERS = 3  # of a reviewer, whose mean similarity counts


class RankingScorer:
    """A task whose judged candidates, read at once, are ranked by the model's distance.

    Args:
        task: of which the judgements are.
        ties: how candidates at equal distances are ordered.

    Raises:
        UserError: the judgements cannot be read.
    """

    def __init__(self, task: Task, ties: TieRule = "expected") -> None:
        self.task = task
        self.ties: TieRule = ties
        self.pools, self.again = read_judgements(task.labels)
        # A search's own id names its words, and means no candidate that has the same id.
        query_format, candidate_format = FORMATS_OF[task.type]
        papers = self.pools.items() if query_format == candidate_format else ()
        self.own = sum(pool.pop(query, None) is not None for query, pool in papers)

    def wanted(self) -> tuple[set[str], set[str]]:
        """See `Scorer`."""
        return set(self.pools), {name for pool in self.pools.values() for name in pool}

    def asked(self) -> set[str]:
        """See `Scorer`."""
        return set(self.pools)

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Result:
        """See `Scorer`."""
        if similarity == "cosine":
            queries, others = queries.as_unit(), others.as_unit()
        rankings: dict[str, dict[str, float]] = {}
        dropped = 0
        for query, pool in self.pools.items():
            names = [name for name in pool if name in others]
            dropped += len(pool) - len(names)
            if query in queries and names:
                query_row = torch.from_numpy(queries.of([query]))
                candidates = torch.from_numpy(others.of(names))
                distances = pairwise_euclidean(query_row, candidates)[0].numpy()
                rankings[query] = dict(zip(names, distances.tolist(), strict=True))
        scored = judge(self.task, rankings, self.pools, self.ties)
        scored.settings |= {"candidates_without_text_left_out": dropped, "judged_again": self.again}
        missed = "Candidates without a text, not ranked, a relevant one counted as missed"
        again = "Pairs judged again with another grade, of which the last counts"
        own = "Queries that were in their own pool, removed from it"
        scored.notes += counted({missed: dropped, again: self.again, own: self.own})
        return scored


class ReviewerScorer:
    """Reviewers ranked for each paper by the mean cosine of their three nearest papers to it.

    Two judgements of the same pools: ``hard`` and ``soft``.

    Args:
        task: of which the judgements are.
        ties: how reviewers of equal cosines are ordered.

    Raises:
        UserError: the judgements or reviewers cannot be read.
    """

    def __init__(self, task: Task, ties: TieRule = "expected") -> None:
        self.task = task
        self.ties: TieRule = ties
        self.judged = {
            kind: read_judgements(task.labels, f"test_{kind}_qrel")[0] for kind in ("hard", "soft")
        }
        self.papers = read_reviewers(task.reviewers)

    def wanted(self) -> tuple[set[str], set[str]]:
        """See `Scorer`."""
        papers = {paper for papers in self.papers.values() for paper in papers}
        return set(self.judged["hard"]), papers

    def asked(self) -> set[str]:
        """See `Scorer`."""
        return set(self.judged["hard"])

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Result:
        """See `Scorer`."""
        papers = {
            name: [paper for paper in papers if paper in others]
            for name, papers in self.papers.items()
        }
        queries, others = queries.as_unit(), others.as_unit()
        rankings, dropped = {}, 0
        for query, pool in self.judged["hard"].items():
            names = [name for name in pool if papers.get(name)]
            dropped += len(pool) - len(names)
            if query in queries and names:
                query_row = queries.of([query]).astype(np.float64)
                rankings[query] = {
                    name: -mean_cosine(query_row, others.of(papers[name])) for name in names
                }
        scored = Result({})
        for kind, pools in self.judged.items():
            part = judge(self.task, rankings, pools, self.ties)
            scored.metrics |= {f"{kind}_{name}": value for name, value in part.metrics.items()}
            for query, values in part.per_query.items():
                named = {f"{kind}_{name}": value for name, value in values.items()}
                scored.per_query.setdefault(query, {}).update(named)
            scored.settings |= {f"{kind}_{key}": value for key, value in part.settings.items()}
            scored.notes += part.notes if kind == "hard" else []
        scored.settings["ranked_by"] = f"mean cosine of the {TOP_PAPERS} nearest papers"
        note = "Judged reviewers without a paper that has a text, not ranked"
        scored.notes += counted({note: dropped})
        return scored


def judge(
    task: Task, rankings: Mapping[str, Mapping[str, float]], pools: Pools, ties: TieRule
) -> Result:
    """The metrics of rankings by the grades of their pools, and their means over queries.

    ``rankings`` has the distance of each candidate that could be ranked, by query. A query without
    a relevant candidate counts with 0, as trec_eval has it.

    Raises:
        UserError: nothing was ranked.
    """
    metrics = [ranked_metric(name) for name in task.metrics]
    per_query, tied = {}, 0
    for query in pools.keys() & rankings.keys():
        pool, ids = pools[query], list(rankings[query])
        distances = np.array(list(rankings[query].values()))
        ranked = rank_pool(distances, [pool.get(name, 0) for name in ids], ids, ties)
        judged = np.array(list(pool.values()), dtype=np.int64)
        per_query[query] = {name: metric(ranked, judged) for name, metric in metrics}
        tied += ranked.tied
    if not per_query:
        raise UserError(
            f"task {task.name!r}: no query with a candidate has a text in {task.documents}; the "
            "ids there and in the judgements must be the same."
        )
    left_out = len(pools) - len(per_query)
    without_relevant = sum(max(pools[query].values(), default=0) < 1 for query in per_query)
    notes = counted(
        {
            "Queries without a text, or a candidate with one, left out": left_out,
            "Queries without a relevant candidate, counted with 0": without_relevant,
            TIED: tied,
        }
    )
    ordered = {query: per_query[query] for query in pools if query in per_query}
    settings = {"queries": len(per_query), "queries_left_out": left_out, "queries_tied": tied}
    return Result(mean(ordered.values()), ordered, settings, notes)


def mean_cosine(query: NDArray[np.float64], papers: Any) -> float:
    """Mean cosine of the nearest papers of a reviewer to a paper, all of length 1."""
    # Row by row, not as a matrix product: equal papers have equal cosines at any position.
    cosines = (papers.astype(np.float64) * query).sum(axis=1)
    return float(np.sort(cosines)[::-1][:TOP_PAPERS].mean())
