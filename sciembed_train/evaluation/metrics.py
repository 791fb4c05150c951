"""Ranking metrics on grades in ranked order; every name says which form it computes.

Shapes: ``N`` ranks, best first, on the last axis; any number of axes before it (``...``). Rankings
of unequal length may be filled up with grade 0 at the end: no function below changes by it, save a
percentage cut, which therefore takes the pool size as an argument.

Documents at equal distances have no order of their own. With ``starts``, which says for each rank
where the documents of its distance begin, a metric is its expectation over all orders of these,
in closed form (McSherry and Najork 2008, "Computing information retrieval performance measures
efficiently in the presence of tied scores"); the ranking is then a single one, ``[N]``, and has all
documents of each distance. Without ``starts`` the order given is the one that counts.

torchmetrics, with which the tests compare the standard forms, takes documents with a score of 0 or
less (negated distances) as irrelevant, breaks some ties at random, and has neither the
Jarvelin-Kekalainen discount, nor exponential gain, nor rankings cut before the last relevant one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Discount = Literal["log2", "jk"]
Gain = Literal["linear", "exp"]
Scores = NDArray[np.float64] | np.float64  # a number where there is one ranking
Starts = NDArray[np.int64] | None  # first rank, from 0, of the documents of the same distance, [N]


def average_precision(relevant: Any, total: Any = None, starts: Starts = None) -> Scores:
    """Mean, over the relevant documents, of the precision at the rank of each.

    Args:
        relevant: true or 1 where the document at that rank is relevant, ``[..., N]``.
        total: number of relevant documents, ``[...]``, where the ranking was cut before the last
            of them; those it misses count 0. Otherwise all are in the ranking.
        starts: of tied ranks.

    Returns:
        ``[...]``; 0 where nothing is relevant.
    """
    hits = _hits(relevant)
    if starts is None:
        summed = (np.cumsum(hits, -1) / _ranks(hits) * hits).sum(-1)
    else:
        # A rank of a group has a relevant document with chance r / n; then the others of the group
        # before it hold (i - 1) (r - 1) / (n - 1) on average.
        first, size, inside, before = _groups(hits, starts)
        others = (_ranks(hits) - first - 1) * (inside - 1) / np.maximum(size - 1, 1)
        summed = (inside / size * (before + 1 + others) / _ranks(hits)).sum(-1)
    return _divide(summed, _total(hits, total))


def reciprocal_rank(relevant: Any, starts: Starts = None) -> Scores:
    """One over the rank of the first relevant document, ``[...]``; 0 where there is none."""
    hits = _hits(relevant)
    if starts is None:
        return (hits / _ranks(hits)).max(-1, initial=0.0)
    return _first_of_group(hits, starts, lambda first, place: 1 / (first + place))


def precision_at(relevant: Any, k: int, starts: Starts = None) -> Scores:
    """Share of relevant documents among the first ``k``; a shorter ranking still counts ``k``."""
    return _shared(_hits(relevant), starts)[..., :k].sum(-1) / k


def recall_at(relevant: Any, k: int, total: Any = None, starts: Starts = None) -> Scores:
    """Share of all relevant documents that stand among the first ``k``; 0 where there are none."""
    hits = _hits(relevant)
    return _divide(_shared(hits, starts)[..., :k].sum(-1), _total(hits, total))


def f1_at(relevant: Any, k: int, total: Any = None, starts: Starts = None) -> Scores:
    """Harmonic mean of `precision_at` and `recall_at`; 0 where both are 0.

    That is twice the hits over ``k`` plus all relevant documents.
    """
    hits = _hits(relevant)
    return _divide(2 * _shared(hits, starts)[..., :k].sum(-1), k + _total(hits, total))


def r_precision(relevant: Any, total: Any = None, starts: Starts = None) -> Scores:
    """Precision at rank R, R being the number of relevant documents; 0 where there are none."""
    hits = _hits(relevant)
    r = _total(hits, total)
    within = _ranks(hits) <= r[..., None]
    return _divide((_shared(hits, starts) * within).sum(-1), r)


def work_saved(relevant: Any, pool: int, recall: float = 0.95, starts: Starts = None) -> Scores:
    """Work saved over sampling, where a review stops at a recall; 0 where nothing is relevant.

    ``(pool - k) / pool - (1 - recall)``, ``k`` the rank at which that share of the relevant
    documents is found (Cohen et al. 2006, "Reducing workload in systematic review preparation
    using automated document classification"); -0.05 for the worst ranking at 95 %.

    Args:
        relevant: down to the last relevant document of a single ranking, ``[N]``.
        pool: number of documents that are screened.
        recall: share of the relevant documents.
        starts: of tied ranks.
    """
    hits = _hits(relevant)
    wanted = math.ceil(recall * hits.sum() - 1e-9)
    if not wanted:
        return np.float64(0)
    rank = int(np.searchsorted(np.cumsum(hits), wanted))  # from 0, in the order given
    k = rank + 1.0
    if starts is not None:
        first, size, inside, before = (of_rank[rank] for of_rank in _groups(hits, starts))
        k = first + (wanted - before) * (size + 1) / (inside + 1)
    return np.float64((pool - k) / pool - (1 - recall))


def precision_last_relevant(relevant: Any, starts: Starts = None) -> Scores:
    """Precision at the rank of the last relevant document; 0 where there is none.

    CSFCube's scorer and Aspire's call this "R-Precision", which it is not: see `r_precision`.
    """
    hits = _hits(relevant)
    if starts is None:
        last = (hits * _ranks(hits)).max(-1, initial=0.0)
        return _divide(hits.sum(-1), last)
    count, ranks = hits.sum(), len(hits)
    # Seen from the end, the last relevant document is the first one.
    ends = starts + _groups(hits, starts)[1].astype(np.int64)
    return _first_of_group(
        hits[::-1], ranks - ends[::-1], lambda first, place: count / (ranks - first - place + 1)
    )


def dcg(
    grades: Any,
    k: int | None = None,
    discount: Discount = "log2",
    gain: Gain = "linear",
    starts: Starts = None,
) -> Scores:
    """Discounted cumulative gain of the first ``k`` ranks (of all where ``k`` is None).

    ``sum over ranks i = 1..k of gain(grade_i) / d(i)``, where

    - discount ``log2``: ``d(i) = log2(i + 1)``, the usual form (Burges et al. 2005);
    - discount ``jk``: ``d(1) = 1, d(i) = log2(i)``, so that ranks 1 and 2 both count whole
      (Jarvelin and Kekalainen 2002 with base 2); CSFCube, Aspire;
    - gain ``linear``: the grade itself; gain ``exp``: ``2**grade - 1``.
    """
    grades = np.asarray(grades, dtype=np.float64)
    gains = _shared(grades if gain == "linear" else np.exp2(grades) - 1, starts)
    if k is not None:
        gains = gains[..., :k]
    i = np.arange(1, gains.shape[-1] + 1, dtype=np.float64)
    divisor = np.log2(i + 1) if discount == "log2" else np.log2(np.maximum(i, 2))
    return (gains / divisor).sum(-1)


def ndcg(
    grades: Any,
    k: int | None = None,
    discount: Discount = "log2",
    gain: Gain = "linear",
    judged: Any = None,
    starts: Starts = None,
) -> Scores:
    """`dcg` over the `dcg` of the best possible order, at the same ``k``; 0 where that is 0.

    Args:
        grades: grades in ranked order, ``[..., N]``, 0 or more.
        k: ranks looked at; None for all of them, 0 gives 0.
        discount: see `dcg`.
        gain: see `dcg`.
        judged: every grade above 0 in any order, ``[..., M]``, where the ranking was cut before
            the last of them; otherwise they are all in ``grades``.
        starts: of tied ranks.
    """
    pool = np.asarray(grades if judged is None else judged, dtype=np.float64)
    best = -np.sort(-pool, axis=-1)
    return _divide(dcg(grades, k, discount, gain, starts), dcg(best, k, discount, gain))


def percent_cut(pool: int, percent: int) -> int:
    """Ranks in a percentage of a pool, rounded down: the ``k`` of NDCG%20 and its like."""
    return pool * percent // 100


def graded(grades: Any, threshold: int, starts: Starts = None) -> dict[str, float]:
    """The metrics of one fully judged pool in ranked order, by name.

    Names carry the form: ``_grade2`` is binary at grade 2 or more, ``_jk`` and ``_log2`` are the
    discounts of `dcg`, ``_exp`` is exponential gain (linear otherwise), ``pct20`` is a cut at 20
    percent of the pool.

    Args:
        grades: the grade of every judged document, best ranked first, ``[N]``.
        threshold: least grade that counts as relevant in the binary metrics.
        starts: of tied ranks.
    """
    grades = np.asarray(grades)
    hits = grades >= threshold
    t = f"grade{threshold}"
    pct20 = percent_cut(len(grades), 20)
    scores: dict[str, Any] = {
        f"map_{t}": average_precision(hits, starts=starts),
        f"mrr_{t}": reciprocal_rank(hits, starts=starts),
        f"r_precision_{t}": r_precision(hits, starts=starts),
        f"precision_last_relevant_{t}": precision_last_relevant(hits, starts=starts),
        f"precision20_{t}": precision_at(hits, 20, starts=starts),
        f"recall20_{t}": recall_at(hits, 20, starts=starts),
        f"f1_20_{t}": f1_at(hits, 20, starts=starts),
    }
    for discount in ("jk", "log2"):
        scores[f"ndcg_{discount}"] = ndcg(grades, None, discount, starts=starts)
        scores[f"ndcg20_{discount}"] = ndcg(grades, 20, discount, starts=starts)
        scores[f"ndcg_pct20_{discount}"] = ndcg(grades, pct20, discount, starts=starts)
        exponential = ndcg(grades, pct20, discount, "exp", starts=starts)
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


def _shared(values: NDArray[np.float64], starts: Starts) -> NDArray[np.float64]:
    """The mean of the values of each distance at each of its ranks."""
    if starts is None:
        return values
    _, size, inside, _ = _groups(values, starts)
    return inside / size


def _groups(values: NDArray[np.float64], starts: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Of the documents of each rank's distance: first rank from 0, number, sum, sum before."""
    firsts = np.unique(starts)
    sizes = np.diff(np.append(firsts, len(values)))
    sums = np.add.reduceat(values, firsts) if len(values) else values
    before = np.cumsum(sums) - sums
    return [
        np.repeat(of_group, sizes).astype(np.float64) for of_group in (firsts, sizes, sums, before)
    ]


def _first_of_group(
    hits: NDArray[np.float64], starts: NDArray[np.int64], value: Callable[[Any, Any], Any]
) -> Scores:
    """Expectation of ``value(first, place)`` at the first relevant document, else 0.

    ``first`` is the number of documents before its group, ``place`` its own in the group, from 1.
    """
    places = np.flatnonzero(hits)
    if not len(places):
        return np.float64(0)
    first, size, inside, _ = (int(of_rank[places[0]]) for of_rank in _groups(hits, starts))
    place = np.arange(1, size + 1, dtype=np.float64)
    # The chance that the first i documents of the group are all irrelevant.
    none = np.cumprod(np.maximum(size - inside - place + 1, 0) / (size - place + 1))
    chance = np.concatenate([[1.0], none[:-1]]) - none
    return np.float64((chance * value(first, place)).sum())
