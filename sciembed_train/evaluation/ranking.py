"""Rankings by distance.

Papers at equal distances have no order: a metric is its expectation over all of theirs, unless
a `TieRule` gives them one. The order of the input never counts.

Shapes: ``N`` papers, ``W`` wanted (judged) papers of one query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.distances import refuse_nan

# How papers at equal distances are ordered: not at all, a metric being its expectation; by their
# ids, ascending; or descending, as trec_eval does it.
TieRule = Literal["expected", "paper_id", "trec_eval"]
TIE_RULES: dict[TieRule, str] = {
    "expected": "expectation over all orders of papers at equal distances",
    "paper_id": "distance, then paper id",
    "trec_eval": "distance, then paper id from the last to the first, as trec_eval",
}


@dataclass(frozen=True)
class Ranked:
    """The judged papers of one query as they are ranked; all others have grade 0.

    Args:
        grades: of the judged papers, nearest first, ``[W]``.
        places: where they stand among all; None where these are all, in this order.
        tied: whether papers of unequal grades are at one distance.
    """

    grades: Int64[np.ndarray, " W"]
    places: metrics.Places | None
    tied: bool


def tie_order(ids: Sequence[str], rule: TieRule) -> Int64[np.ndarray, " N"] | None:
    """What decides between equal distances, for `rank_judged`: None where nothing does."""
    if rule == "expected":
        return None
    return id_order(ids) if rule == "paper_id" else -id_order(ids)


def rank_judged(
    distances: NDArray[np.floating],
    wanted: Int64[np.ndarray, " W"],
    grades: NDArray[np.integer],
    order: Int64[np.ndarray, " N"] | None = None,
    left_out: int | None = None,
) -> Ranked:
    """Where the judged papers of a query stand among all, without sorting them all.

    Args:
        distances: of every paper, ``[N]``.
        wanted: the judged papers, positions in ``distances``.
        grades: theirs, ``[W]``.
        order: of papers at equal distances, of `tie_order`.
        left_out: no candidate and not judged, such as the query itself.

    Raises:
        UserError: a distance is nan.
    """
    if order is not None:
        refuse_nan(distances)
        places = ranks(distances, order, wanted, left_out)
        by_rank = np.argsort(places)
        alone = metrics.Places(places[by_rank] - 1, np.ones(len(wanted), dtype=np.int64))
        tied = _levels(distances, wanted, grades, left_out)[2]
        return Ranked(grades[by_rank], alone, tied)
    return Ranked(*_levels(distances, wanted, grades, left_out))


def _levels(
    distances: NDArray[np.floating],
    wanted: Int64[np.ndarray, " W"],
    grades: NDArray[np.integer],
    left_out: int | None,
) -> tuple[Int64[np.ndarray, " W"], metrics.Places, bool]:
    """`Ranked` of papers that no rule orders where they are at equal distances."""
    ordered = np.sort(distances)
    if len(ordered) and np.isnan(ordered[-1]):
        refuse_nan(distances)
    by_distance = np.argsort(distances[wanted], kind="stable")
    levels, row = distances[wanted][by_distance], grades[by_distance].astype(np.int64)
    first, end = (np.searchsorted(ordered, levels, side) for side in ("left", "right"))
    if left_out is not None:
        first, end = first - (distances[left_out] < levels), end - (distances[left_out] <= levels)
    size = end - first
    # Grades within a level are equal where none changes and no paper of it is not judged.
    _, start, judged = np.unique(first, return_index=True, return_counts=True)
    lowest, highest = (at.reduceat(row, start) for at in (np.minimum, np.maximum))
    lowest = np.where(judged < size[start], 0, lowest)
    return row, metrics.Places(first, size), bool((lowest != highest).any())


def id_order(ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
    """Position of each id in the sorted list of ids: decides between equal distances."""
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return order


def nearest(
    distances: NDArray[np.floating], order: Int64[np.ndarray, " N"]
) -> Int64[np.ndarray, " N"]:
    """The papers in ranked order, equal ones by ``order``; UserError if one has no distance."""
    refuse_nan(distances)
    return np.lexsort((order, distances))


def ranks(
    distances: NDArray[np.floating],
    order: Int64[np.ndarray, " N"],
    wanted: Int64[np.ndarray, " W"],
    left_out: int | None = None,
) -> Int64[np.ndarray, " W"]:
    """Rank of each wanted paper among all, 1 the nearest, without sorting them all.

    ``order`` decides between equal distances; ``left_out`` is no candidate and not wanted, such as
    the query itself.

    Raises:
        UserError: a distance is nan.
    """
    refuse_nan(distances)
    sorting = np.lexsort((order[wanted], distances[wanted]))
    wanted_distances = distances[wanted][sorting]
    low = np.searchsorted(wanted_distances, distances, "left")
    high = np.searchsorted(wanted_distances, distances, "right")
    # A paper at distance d is nearer than every wanted one from index `high` on.
    counts = np.bincount(high, minlength=len(wanted) + 1)
    equal = np.flatnonzero(low != high)  # as far as a wanted paper: the ids decide
    if left_out is not None:
        counts[high[left_out]] -= 1
        equal = equal[equal != left_out]
    n_before = np.cumsum(counts)[: len(wanted)]
    tied = order[wanted][sorting]
    for first in np.unique(low[equal]):
        group = equal[low[equal] == first]
        last = high[group[0]]
        n_before[first:last] += np.searchsorted(np.sort(order[group]), tied[first:last], "left")
    wanted_ranks = np.empty(len(wanted), dtype=np.int64)
    wanted_ranks[sorting] = n_before + 1
    return wanted_ranks


def rank_pool(
    distances: NDArray[np.floating],
    grades: Sequence[int] | NDArray[np.integer],
    ids: Sequence[str],
    ties: TieRule,
) -> Ranked:
    """The ranking of a pool of which every paper is judged.

    Args:
        distances: of each candidate, ``[N]``.
        grades: theirs.
        ids: theirs.
        ties: how those at equal distances are ordered.

    Raises:
        UserError: a distance is nan.
    """
    return rank_judged(distances, np.arange(len(ids)), np.asarray(grades), tie_order(ids, ties))


def judged(
    ranked: Ranked,
    threshold: int | None = None,
    recalls: Sequence[int] = (10,),
    cuts: Sequence[int] = (10,),
) -> dict[str, float]:
    """The metrics of one query whose candidates are a whole collection, by name.

    Args:
        ranked: the ranks of its judged papers.
        threshold: least grade that is relevant in the binary metrics, and part of their names
            (``map_grade1``); None where there are no grades: all are relevant (``map``).
        recalls: ranks for recall.
        cuts: ranks for nDCG (discount log2, linear gain), beside nDCG of the whole ranking.
    """
    row, places = ranked.grades, ranked.places
    hits = row >= (1 if threshold is None else threshold)
    form = "" if threshold is None else f"_grade{threshold}"
    scores = {
        f"map{form}": metrics.average_precision(hits, places=places),
        f"mrr{form}": metrics.reciprocal_rank(hits, places),
        **{f"recall{k}{form}": metrics.recall_at(hits, k, places=places) for k in recalls},
        "ndcg_log2": metrics.ndcg(row, places=places),
        **{f"ndcg{k}_log2": metrics.ndcg(row, k, places=places) for k in cuts},
    }
    return {name: float(value) for name, value in scores.items()}
