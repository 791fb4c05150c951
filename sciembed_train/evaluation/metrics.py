"""Ranking metrics on grades in ranked order; every name says which form it computes.

Shapes: ``N`` ranks, best first, on the last axis; any number of axes before it (``...``). Rankings
of unequal length may be filled up with grade 0 at the end: no function below changes by it, save a
percentage cut, which therefore takes the pool size as an argument.

torchmetrics, with which the tests compare the standard forms, takes documents with a score of 0 or
less (negated distances) as irrelevant, breaks some ties at random, and has neither the
Jarvelin-Kekalainen discount, nor exponential gain, nor rankings cut before the last relevant one.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Discount = Literal["log2", "jk"]
Gain = Literal["linear", "exp"]
Scores = NDArray[np.float64] | np.float64  # a number where there is one ranking


def average_precision(relevant: Any, total: Any = None) -> Scores:
    """Mean, over the relevant documents, of the precision at the rank of each.

    Args:
        relevant: true or 1 where the document at that rank is relevant, ``[..., N]``.
        total: number of relevant documents, ``[...]``, where the ranking was cut before the last
            of them; those it misses count 0. Otherwise all are in the ranking.

    Returns:
        ``[...]``; 0 where nothing is relevant.
    """
    hits = _hits(relevant)
    precision = np.cumsum(hits, -1) / _ranks(hits)
    return _divide((precision * hits).sum(-1), _total(hits, total))


def reciprocal_rank(relevant: Any) -> Scores:
    """One over the rank of the first relevant document, ``[...]``; 0 where there is none."""
    hits = _hits(relevant)
    return (hits / _ranks(hits)).max(-1, initial=0.0)


def precision_at(relevant: Any, k: int) -> Scores:
    """Share of relevant documents among the first ``k``; a shorter ranking still counts ``k``."""
    return _hits(relevant)[..., :k].sum(-1) / k


def recall_at(relevant: Any, k: int, total: Any = None) -> Scores:
    """Share of all relevant documents that stand among the first ``k``; 0 where there are none."""
    hits = _hits(relevant)
    return _divide(hits[..., :k].sum(-1), _total(hits, total))


def f1_at(relevant: Any, k: int, total: Any = None) -> Scores:
    """Harmonic mean of `precision_at` and `recall_at`; 0 where both are 0."""
    precision, recall = precision_at(relevant, k), recall_at(relevant, k, total)
    return _divide(2 * precision * recall, precision + recall)


def r_precision(relevant: Any, total: Any = None) -> Scores:
    """Precision at rank R, R being the number of relevant documents; 0 where there are none."""
    hits = _hits(relevant)
    r = _total(hits, total)
    within = _ranks(hits) <= r[..., None]
    return _divide((hits * within).sum(-1), r)


def precision_last_relevant(relevant: Any) -> Scores:
    """Precision at the rank of the last relevant document; 0 where there is none.

    CSFCube's scorer and Aspire's call this "R-Precision", which it is not: see `r_precision`.
    """
    hits = _hits(relevant)
    last = (hits * _ranks(hits)).max(-1, initial=0.0)
    return _divide(hits.sum(-1), last)


def dcg(
    grades: Any, k: int | None = None, discount: Discount = "log2", gain: Gain = "linear"
) -> Scores:
    """Discounted cumulative gain of the first ``k`` ranks (of all where ``k`` is None).

    ``sum over ranks i = 1..k of gain(grade_i) / d(i)``, where

    - discount ``log2``: ``d(i) = log2(i + 1)``, the usual form (Burges et al. 2005);
    - discount ``jk``: ``d(1) = 1, d(i) = log2(i)``, so that ranks 1 and 2 both count whole
      (Jarvelin and Kekalainen 2002 with base 2); CSFCube, Aspire;
    - gain ``linear``: the grade itself; gain ``exp``: ``2**grade - 1``.
    """
    grades = np.asarray(grades, dtype=np.float64)
    if k is not None:
        grades = grades[..., :k]
    i = np.arange(1, grades.shape[-1] + 1, dtype=np.float64)
    divisor = np.log2(i + 1) if discount == "log2" else np.log2(np.maximum(i, 2))
    gains = grades if gain == "linear" else np.exp2(grades) - 1
    return (gains / divisor).sum(-1)


def ndcg(
    grades: Any,
    k: int | None = None,
    discount: Discount = "log2",
    gain: Gain = "linear",
    judged: Any = None,
) -> Scores:
    """`dcg` over the `dcg` of the best possible order, at the same ``k``; 0 where that is 0.

    Args:
        grades: grades in ranked order, ``[..., N]``, 0 or more.
        k: ranks looked at; None for all of them, 0 gives 0.
        discount: see `dcg`.
        gain: see `dcg`.
        judged: every grade above 0 in any order, ``[..., M]``, where the ranking was cut before
            the last of them; otherwise they are all in ``grades``.
    """
    pool = np.asarray(grades if judged is None else judged, dtype=np.float64)
    best = -np.sort(-pool, axis=-1)
    return _divide(dcg(grades, k, discount, gain), dcg(best, k, discount, gain))


def percent_cut(pool: int, percent: int) -> int:
    """Ranks in a percentage of a pool, rounded down: the ``k`` of NDCG%20 and its like."""
    return pool * percent // 100


def graded(grades: Any, threshold: int) -> dict[str, float]:
    """The metrics of one fully judged pool in ranked order, by name.

    Names carry the form: ``_grade2`` is binary at grade 2 or more, ``_jk`` and ``_log2`` are the
    discounts of `dcg`, ``_exp`` is exponential gain (linear otherwise), ``pct20`` is a cut at 20
    percent of the pool.

    Args:
        grades: the grade of every judged document, best ranked first, ``[N]``.
        threshold: least grade that counts as relevant in the binary metrics.
    """
    grades = np.asarray(grades)
    hits = grades >= threshold
    t = f"grade{threshold}"
    pct20 = percent_cut(len(grades), 20)
    scores: dict[str, Any] = {
        f"map_{t}": average_precision(hits),
        f"mrr_{t}": reciprocal_rank(hits),
        f"r_precision_{t}": r_precision(hits),
        f"precision_last_relevant_{t}": precision_last_relevant(hits),
        f"precision20_{t}": precision_at(hits, 20),
        f"recall20_{t}": recall_at(hits, 20),
        f"f1_20_{t}": f1_at(hits, 20),
    }
    for discount in ("jk", "log2"):
        scores[f"ndcg_{discount}"] = ndcg(grades, None, discount)
        scores[f"ndcg20_{discount}"] = ndcg(grades, 20, discount)
        scores[f"ndcg_pct20_{discount}"] = ndcg(grades, pct20, discount)
        scores[f"ndcg_pct20_{discount}_exp"] = ndcg(grades, pct20, discount, "exp")
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
