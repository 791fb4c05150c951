"""Ranking metrics on grades in ranked order; every name says which form it computes.

Shapes: ``N`` ranks, best first, on the last axis; any number of axes before it (``...``). Rankings
of unequal length may be filled up with grade 0 at the end: no function below changes by it, save a
percentage cut, which therefore takes the pool size as an argument.

With `Places` the grades are those of some documents of a single ranking, ``[J]``, nearest first,
and all others have grade 0: a ranking of a million with ten relevant ones is ten numbers.
Documents at equal distances have no order of their own: a metric is then its expectation over all
orders of these (McSherry and Najork 2008, "Computing information retrieval performance measures
efficiently in the presence of tied scores"). Without places the order given is the one that counts.

torchmetrics, with which the tests compare the standard forms, takes documents with a score of 0 or
less (negated distances) as irrelevant, breaks some ties at random, and has neither the
Jarvelin-Kekalainen discount, nor exponential gain, nor rankings cut before the last relevant one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Discount = Literal["log2", "jk"]
Gain = Literal["linear", "exp"]
Scores = NDArray[np.float64] | np.float64  # a number where there is one ranking


@dataclass(frozen=True)
class Places:
    """Where documents stand in a ranking.

    Args:
        first: how many documents are nearer, ``[J]``, ascending.
        size: how many are at the same distance, this one among them, ``[J]``.
    """

    first: NDArray[np.int64]
    size: NDArray[np.int64]

    def shared(self, value: Callable[[NDArray[np.float64]], Any]) -> NDArray[np.float64]:
        """The mean of a function of the rank, from 1, over the ranks of each distance, ``[J]``."""
        means = np.asarray(value((self.first + 1).astype(np.float64)), dtype=np.float64)
        for own, ranks in self.tied():
            means[own] = value(ranks).mean()
        return means

    def tied(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The documents of each distance that has several, and the ranks, from 1, that it has."""
        for first in np.unique(self.first[self.size > 1]):
            own = np.flatnonzero(self.first == first)
            size = self.size[own[0]]
            yield own, np.arange(first + 1, first + size + 1, dtype=np.float64)

    def among(self, k: int | NDArray[np.float64]) -> NDArray[np.float64]:
        """The chance that each document is among the first ``k``, ``[J]``."""
        return np.clip((k - self.first) / self.size, 0, 1)


def average_precision(relevant: Any, total: Any = None, places: Places | None = None) -> Scores:
    """Mean, over the relevant documents, of the precision at the rank of each.

    Args:
        relevant: true or 1 where the document at that rank is relevant, ``[..., N]``.
        total: number of relevant documents, ``[...]``, where the ranking was cut before the last
            of them; those it misses count 0. Otherwise all are in the ranking.
        places: of the documents.

    Returns:
        ``[...]``; 0 where nothing is relevant.
    """
    hits = _hits(relevant)
    if places is None:
        summed = (np.cumsum(hits, -1) / _ranks(hits) * hits).sum(-1)
    else:
        before = np.cumsum(hits)
        precisions = before / (places.first + 1)
        for own, ranks in places.tied():
            inside = hits[own].sum()
            nearer = before[own[-1]] - inside
            # Of the other relevant ones at this distance, a rank has its share before it.
            others = (ranks - ranks[0]) * (inside - 1) / (len(ranks) - 1)
            precisions[own] = ((nearer + 1 + others) / ranks).mean()
        summed = (precisions * hits).sum()
    return _divide(summed, _total(hits, total))


def reciprocal_rank(relevant: Any, places: Places | None = None) -> Scores:
    """One over the rank of the first relevant document, ``[...]``; 0 where there is none."""
    hits = _hits(relevant)
    if places is None:
        return (hits / _ranks(hits)).max(-1, initial=0.0)
    return _first_relevant(hits, places, lambda first, _, place: 1 / (first + place))


def precision_at(relevant: Any, k: int, places: Places | None = None) -> Scores:
    """Share of relevant documents among the first ``k``; a shorter ranking still counts ``k``."""
    return _hits_among(_hits(relevant), k, places) / k


def recall_at(relevant: Any, k: int, total: Any = None, places: Places | None = None) -> Scores:
    """Share of all relevant documents that stand among the first ``k``; 0 where there are none."""
    hits = _hits(relevant)
    return _divide(_hits_among(hits, k, places), _total(hits, total))


def f1_at(relevant: Any, k: int, total: Any = None, places: Places | None = None) -> Scores:
    """Harmonic mean of `precision_at` and `recall_at`; 0 where both are 0.

    That is twice the hits over ``k`` plus all relevant documents.
    """
    hits = _hits(relevant)
    return _divide(2 * _hits_among(hits, k, places), k + _total(hits, total))


def r_precision(relevant: Any, total: Any = None, places: Places | None = None) -> Scores:
    """Precision at rank R, R being the number of relevant documents; 0 where there are none."""
    hits = _hits(relevant)
    r = _total(hits, total)
    within = _ranks(hits) <= r[..., None] if places is None else places.among(r)
    return _divide((hits * within).sum(-1), r)


def work_saved(
    relevant: Any, pool: int, recall: float = 0.95, places: Places | None = None
) -> Scores:
    """Work saved over sampling, where a review stops at a recall; 0 where nothing is relevant.

    ``(pool - k) / pool - (1 - recall)``, ``k`` the rank at which that share of the relevant
    documents is found (Cohen et al. 2006, "Reducing workload in systematic review preparation
    using automated document classification"); -0.05 for the worst ranking at 95 %.

    Args:
        relevant: of a single ranking, ``[N]``, which may end at the last relevant document.
        pool: number of documents that are screened.
        recall: share of the relevant documents.
        places: of the documents.
    """
    hits = _hits(relevant)
    wanted = math.ceil(recall * hits.sum() - 1e-9)
    if not wanted:
        return np.float64(0)
    rank = int(np.searchsorted(np.cumsum(hits), wanted))  # from 0, in the order given
    k = rank + 1.0
    if places is not None:
        first, size = places.first[rank], places.size[rank]
        own = places.first == first
        nearer = hits[: int(np.argmax(own))].sum()
        k = first + (wanted - nearer) * (size + 1) / (hits[own].sum() + 1)
    return np.float64((pool - k) / pool - (1 - recall))


def precision_last_relevant(relevant: Any, places: Places | None = None) -> Scores:
    """Precision at the rank of the last relevant document; 0 where there is none.

    CSFCube's scorer and Aspire's call this "R-Precision", which it is not: see `r_precision`.
    """
    hits = _hits(relevant)
    if places is None:
        last = (hits * _ranks(hits)).max(-1, initial=0.0)
        return _divide(hits.sum(-1), last)
    # Seen from the end, the last relevant document is the first one.
    backwards = Places(places.first[::-1], places.size[::-1])
    return _first_relevant(
        hits[::-1], backwards, lambda first, size, place: hits.sum() / (first + size - place + 1)
    )


def dcg(
    grades: Any,
    k: int | None = None,
    discount: Discount = "log2",
    gain: Gain = "linear",
    places: Places | None = None,
) -> Scores:
    """Discounted cumulative gain of the first ``k`` ranks (of all where ``k`` is None).

    ``sum over ranks i = 1..k of gain(grade_i) / d(i)``, where

    - discount ``log2``: ``d(i) = log2(i + 1)``, the usual form (Burges et al. 2005);
    - discount ``jk``: ``d(1) = 1, d(i) = log2(i)``, so that ranks 1 and 2 both count whole
      (Jarvelin and Kekalainen 2002 with base 2); CSFCube, Aspire;
    - gain ``linear``: the grade itself; gain ``exp``: ``2**grade - 1``.
    """
    grades = np.asarray(grades, dtype=np.float64)
    gains = grades if gain == "linear" else np.exp2(grades) - 1

    def counted(i: NDArray[np.float64]) -> NDArray[np.float64]:
        divisor = np.log2(i + 1) if discount == "log2" else np.log2(np.maximum(i, 2))
        return (1 if k is None else i <= k) / divisor

    return (gains * (counted(_ranks(gains)) if places is None else places.shared(counted))).sum(-1)


def ndcg(
    grades: Any,
    k: int | None = None,
    discount: Discount = "log2",
    gain: Gain = "linear",
    judged: Any = None,
    places: Places | None = None,
) -> Scores:
    """`dcg` over the `dcg` of the best possible order, at the same ``k``; 0 where that is 0.

    Args:
        grades: grades in ranked order, ``[..., N]``, 0 or more.
        k: ranks looked at; None for all of them, 0 gives 0.
        discount: see `dcg`.
        gain: see `dcg`.
        judged: every grade above 0 in any order, ``[..., M]``, where the ranking was cut before
            the last of them; otherwise they are all in ``grades``.
        places: of the documents.
    """
    pool = np.asarray(grades if judged is None else judged, dtype=np.float64)
    best = -np.sort(-pool, axis=-1)
    return _divide(dcg(grades, k, discount, gain, places), dcg(best, k, discount, gain))


def percent_cut(pool: int, percent: int) -> int:
    """Ranks in a percentage of a pool, rounded down: the ``k`` of NDCG%20 and its like."""
    return pool * percent // 100


def graded(grades: Any, threshold: int, places: Places | None = None) -> dict[str, float]:
    """The metrics of one fully judged pool in ranked order, by name.

    Names carry the form: ``_grade2`` is binary at grade 2 or more, ``_jk`` and ``_log2`` are the
    discounts of `dcg`, ``_exp`` is exponential gain (linear otherwise), ``pct20`` is a cut at 20
    percent of the pool.

    Args:
        grades: the grade of every judged document, best ranked first, ``[N]``.
        threshold: least grade that counts as relevant in the binary metrics.
        places: of the documents.
    """
    grades = np.asarray(grades)
    hits = grades >= threshold
    t = f"grade{threshold}"
    pct20 = percent_cut(len(grades), 20)
    scores: dict[str, Any] = {
        f"map_{t}": average_precision(hits, places=places),
        f"mrr_{t}": reciprocal_rank(hits, places=places),
        f"r_precision_{t}": r_precision(hits, places=places),
        f"precision_last_relevant_{t}": precision_last_relevant(hits, places=places),
        f"precision20_{t}": precision_at(hits, 20, places=places),
        f"recall20_{t}": recall_at(hits, 20, places=places),
        f"f1_20_{t}": f1_at(hits, 20, places=places),
    }
    for discount in ("jk", "log2"):
        scores[f"ndcg_{discount}"] = ndcg(grades, None, discount, places=places)
        scores[f"ndcg20_{discount}"] = ndcg(grades, 20, discount, places=places)
        scores[f"ndcg_pct20_{discount}"] = ndcg(grades, pct20, discount, places=places)
        exponential = ndcg(grades, pct20, discount, "exp", places=places)
        scores[f"ndcg_pct20_{discount}_exp"] = exponential
    return {name: float(value) for name, value in scores.items()}


def _hits(relevant: Any) -> NDArray[np.float64]:
    return (np.asarray(relevant) > 0).astype(np.float64)


def _ranks(hits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arange(1, hits.shape[-1] + 1, dtype=np.float64)


def _total(hits: NDArray[np.float64], total: Any) -> NDArray[np.float64]:
    return np.asarray(hits.sum(-1) if total is None else total, dtype=np.float64)


def _divide(above: Any, below: Any) -> Scores:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def _hits_among(hits: NDArray[np.float64], k: int, places: Places | None) -> Scores:
    """How many relevant documents are among the first ``k``."""
    return hits[..., :k].sum(-1) if places is None else (hits * places.among(k)).sum()


def _first_relevant(
    hits: NDArray[np.float64], places: Places, value: Callable[[int, int, Any], Any]
) -> Scores:
    """Expectation of a function of where the first relevant document of those listed is, else 0.

    ``value(first, size, place)`` takes the place of its group and its own in it, from 1.
    """
    relevant = np.flatnonzero(hits)
    if not len(relevant):
        return np.float64(0)
    first, size = int(places.first[relevant[0]]), int(places.size[relevant[0]])
    inside = hits[places.first == first].sum()
    place = np.arange(1, size + 1, dtype=np.float64)
    # The chance that the first i documents of the group are all irrelevant.
    none = np.cumprod(np.maximum(size - inside - place + 1, 0) / (size - place + 1))
    chance = np.concatenate([[1.0], none[:-1]]) - none
    return np.float64((chance * value(first, size, place)).sum())
