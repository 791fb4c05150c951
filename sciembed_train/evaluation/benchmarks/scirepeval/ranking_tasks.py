"""Proximity and search: judged candidates ranked by the distance of their vectors to the query's.

Candidates at equal distances stand in the order of a hash of query and candidate: the files often
name the relevant ones first, and ids may follow them. So vectors that tell nothing score as chance
does.

Shapes: ``K`` candidates of one query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import mean
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_files import (
    Pools,
    read_judgements,
    read_reviewers,
)
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import FORMATS_OF, Task
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Scored, Vectors
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import ranked_metric
from sciembed_train.evaluation.ranking import nearest
from sciembed_train.inference.options import Similarity
from sciembed_train.losses.similarity import pairwise_euclidean

TOP_PAPERS = 3  # of a reviewer, whose mean similarity counts


class Ranking:
    """A task whose judged candidates are ranked, by Euclidean distance unless the model says other.

    Args:
        task: its judgements are read at once.

    Raises:
        UserError: they cannot be.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pools, self.again = read_judgements(task.labels)
        # A search's own id names its words, and means no candidate that has the same id.
        asked, read = FORMATS_OF[task.type]
        papers = self.pools.items() if asked == read else ()
        self.own = sum(pool.pop(query, None) is not None for query, pool in papers)

    def wanted(self) -> tuple[set[str], set[str]]:
        """See `Scorer`."""
        return set(self.pools), {name for pool in self.pools.values() for name in pool}

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Scored:
        """See `Scorer`."""
        if similarity == "cosine":
            queries, others = queries.as_unit(), others.as_unit()
        rankings: dict[str, list[str]] = {}
        lost = 0
        for query, pool in self.pools.items():
            names = [name for name in pool if name in others]
            lost += len(pool) - len(names)
            if query in queries and names:
                one, few = torch.from_numpy(queries.of([query])), torch.from_numpy(others.of(names))
                far = pairwise_euclidean(one, few)[0].numpy()
                rankings[query] = [names[i] for i in nearest(far, shuffled(query, names))]
        found = judge(self.task, rankings, self.pools)
        found.settings |= {"candidates_without_text_left_out": lost, "judged_again": self.again}
        for count, note in (
            (lost, "Candidates without a text, not ranked, a relevant one counted as not found"),
            (self.again, "Pairs judged again with another grade, of which the last stands"),
            (self.own, "Queries that stood in their own pool, taken out of it"),
        ):
            if count:
                found.notes.append(f"{note}: {count}.")
        return found


class Reviewing:
    """Reviewers ranked for each paper by the mean cosine of their three nearest papers to it.

    Two judgements of the same pools: ``hard`` and ``soft``.

    Args:
        task: its judgements and reviewers are read at once.

    Raises:
        UserError: they cannot be.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.judged = {
            kind: read_judgements(task.labels, f"test_{kind}_qrel")[0] for kind in ("hard", "soft")
        }
        self.papers = read_reviewers(task.reviewers)

    def wanted(self) -> tuple[set[str], set[str]]:
        """See `Scorer`."""
        papers = {paper for papers in self.papers.values() for paper in papers}
        return set(self.judged["hard"]), papers

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Scored:
        """See `Scorer`."""
        papers = {
            name: [paper for paper in papers if paper in others]
            for name, papers in self.papers.items()
        }
        queries, others = queries.as_unit(), others.as_unit()
        rankings, lost = {}, 0
        for query, pool in self.judged["hard"].items():
            names = [name for name in pool if papers.get(name)]
            lost += len(pool) - len(names)
            if query in queries and names:
                one = queries.of([query]).astype(np.float64)
                near = [nearness(one, others.of(papers[name])) for name in names]
                order = nearest(-np.array(near), shuffled(query, names))
                rankings[query] = [names[i] for i in order]
        found = Scored({})
        for kind, pools in self.judged.items():
            part = judge(self.task, rankings, pools)
            found.metrics |= {f"{kind}_{name}": value for name, value in part.metrics.items()}
            for query, values in part.per_query.items():
                named = {f"{kind}_{name}": value for name, value in values.items()}
                found.per_query.setdefault(query, {}).update(named)
            found.settings |= {f"{kind}_{key}": value for key, value in part.settings.items()}
            found.notes += part.notes if kind == "hard" else []
        found.settings["ranked_by"] = f"mean cosine of the {TOP_PAPERS} nearest papers"
        if lost:
            found.notes.append(
                f"Judged reviewers without a paper that has a text, not ranked: {lost}."
            )
        return found


def judge(task: Task, rankings: Mapping[str, Sequence[str]], pools: Pools) -> Scored:
    """The metrics of rankings by the grades of their pools, and their means over queries.

    A query without a relevant candidate counts with 0, as trec_eval has it.

    Raises:
        UserError: nothing was ranked.
    """
    metrics = [ranked_metric(name) for name in task.metrics]
    per_query = {}
    for query in pools.keys() & rankings.keys():
        pool = pools[query]
        grades = np.array([pool.get(name, 0) for name in rankings[query]], dtype=np.int64)
        judged = np.array(list(pool.values()), dtype=np.int64)
        per_query[query] = {name: metric(grades, judged) for name, metric in metrics}
    if not per_query:
        raise UserError(
            f"task {task.name!r}: no query with a candidate has a text in {task.documents}; the "
            "ids there and in the judgements must be the same."
        )
    left = len(pools) - len(per_query)
    bare = sum(max(pools[query].values(), default=0) < 1 for query in per_query)
    notes = [f"Queries without a text, or a candidate with one, left out: {left}."] if left else []
    if bare:
        notes.append(f"Queries without a relevant candidate, counted with 0: {bare}.")
    ordered = {query: per_query[query] for query in pools if query in per_query}
    settings = {"queries": len(per_query), "queries_left_out": left}
    return Scored(mean(ordered.values()), ordered, settings, notes)


def shuffled(query: str, names: Sequence[str]) -> Int64[np.ndarray, " K"]:
    """A number of each candidate that decides between equal distances: a hash of both ids."""
    text = (f"{query}\0{name}".encode() for name in names)
    digests = (hashlib.blake2b(one, digest_size=8).digest() for one in text)
    return np.array([int.from_bytes(one, "little", signed=True) for one in digests], np.int64)


def nearness(query: NDArray[np.float64], papers: Any) -> float:
    """Mean cosine of the nearest papers of a reviewer to a paper, all of length 1."""
    # Row by row, not as a matrix product: equal papers are equally near wherever they stand.
    cosines = (papers.astype(np.float64) * query).sum(axis=1)
    return float(np.sort(cosines)[::-1][:TOP_PAPERS].mean())
