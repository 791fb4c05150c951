"""Rankings by distance: exact, in bounded memory.

Papers at equal distances have no order: a metric is its expectation over all of theirs, unless
a `TieRule` gives them one. The order of the input never counts.
Distances are float32. They come from a kernel that takes each pair by itself, so that two papers
with the same vector are at bit-equal distances at any position; the faster matrix-product form
rounds by position, and would break such ties at random.

Shapes: ``Q`` queries, ``N`` papers, ``W`` wanted (judged) papers of one query, ``R`` ranks, ``D``
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.inference.vector_file import VectorRows
from sciembed_train.losses.similarity import pairwise_euclidean, unit

BLOCK_ENTRIES = 2**25  # distances in memory at once: 128 MiB, whatever Q is
PART = 2**14  # papers that are copied at once, to the device or from a memory map

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
    """The ranking of one query down to its last judged paper.

    Args:
        grades: of the paper of each rank, best first, 0 where it is not judged, ``[R]``.
        starts: first rank, from 0, of the papers at the same distance, where one of them is
            judged, ``[R]``; None where a rule has ordered them.
        tied: whether papers of unequal grades are at one distance.
    """

    grades: Int64[np.ndarray, " R"]
    starts: Int64[np.ndarray, " R"] | None
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
    refuse_nan(distances)
    levels, level_of = np.unique(distances[wanted], return_inverse=True)
    # A paper is nearer than a level where its number of levels at most as far is no larger.
    nearer = np.bincount(np.searchsorted(levels, distances, "right"), minlength=len(levels) + 1)
    up_to = np.bincount(np.searchsorted(levels, distances, "left"), minlength=len(levels) + 1)
    if left_out is not None:
        nearer[np.searchsorted(levels, distances[left_out], "right")] -= 1
        up_to[np.searchsorted(levels, distances[left_out], "left")] -= 1
    first, end = np.cumsum(nearer)[: len(levels)], np.cumsum(up_to)[: len(levels)]
    row = np.zeros(int(end[-1]) if len(levels) else 0, dtype=np.int64)
    starts = np.arange(len(row))
    by_level = np.argsort(level_of, kind="stable")
    counts = np.bincount(level_of, minlength=len(levels))
    within = np.arange(len(wanted)) - np.repeat(np.cumsum(counts) - counts, counts)
    row[first[level_of[by_level]] + within] = grades[by_level]
    tied = False
    for level in np.flatnonzero(end - first > 1):
        group = slice(first[level], end[level])
        starts[group] = first[level]
        tied |= bool((row[group] != row[first[level]]).any())
    if order is None:
        return Ranked(row, starts, tied)
    places = ranks(distances, order, wanted, left_out)
    row = np.zeros(int(places.max(initial=0)), dtype=np.int64)
    row[places - 1] = grades
    return Ranked(row, None, tied)


def id_order(ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
    """Position of each id in the sorted list of ids: decides between equal distances."""
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return order


def distance_rows(
    queries: Float32[np.ndarray, "Q D"],
    papers: Float32[np.ndarray, "N D"] | VectorRows,
    device: torch.device | str = "cpu",
    entries: int = BLOCK_ENTRIES,
) -> Iterator[Float32[np.ndarray, " N"]]:
    """Euclidean distances of each query to every paper, one query after another.

    ``papers`` may be memory-mapped or lie in a file. ``entries`` distances are held at once (but at
    least one query's), beside ``papers`` itself and a copy of `PART` of them.
    """
    step = max(1, min(len(queries), entries // max(1, len(papers))))
    width = max(1, min(PART, entries // step))
    for start in range(0, len(queries), step):
        block_queries = torch.as_tensor(queries[start : start + step], device=device)
        block = np.empty((len(block_queries), len(papers)), dtype=np.float32)
        for left in range(0, len(papers), width):
            part = torch.as_tensor(np.array(papers[left : left + width]), device=device)
            block[:, left : left + width] = pairwise_euclidean(block_queries, part).cpu().numpy()
        yield from block


def to_unit(vectors: Float32[np.ndarray, "N D"]) -> None:
    """Give every vector the length 1, in place.

    The Euclidean distance of unit vectors, ``sqrt(2 - 2 cos)``, ranks as their cosine does. A
    vector of zeros has no direction; it stays, at distance 1 of every unit vector.
    Lengths are computed in float64, so that equal vectors stay equal at any position.
    """
    for left in range(0, len(vectors), PART):
        part = torch.from_numpy(vectors[left : left + PART]).double()
        vectors[left : left + PART] = unit(part).float().numpy()


def refuse_nan(distances: NDArray[np.floating]) -> None:
    """Raise a UserError where a distance is nan, as of a vector that is not finite.

    Sorting would put it somewhere, and a ranking of such papers would have a score.
    """
    if np.isnan(distances).any():
        number = int(np.flatnonzero(np.isnan(distances))[0])
        raise UserError(
            f"The distance of paper {number + 1:,} of {len(distances):,} is not a number, so the "
            "ranking means nothing. The model or its vectors are damaged: use another checkpoint."
        )


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
    row, starts = ranked.grades, ranked.starts
    hits = row >= (1 if threshold is None else threshold)
    form = "" if threshold is None else f"_grade{threshold}"
    scores = {
        f"map{form}": metrics.average_precision(hits, starts=starts),
        f"mrr{form}": metrics.reciprocal_rank(hits, starts),
        **{f"recall{k}{form}": metrics.recall_at(hits, k, starts=starts) for k in recalls},
        "ndcg_log2": metrics.ndcg(row, starts=starts),
        **{f"ndcg{k}_log2": metrics.ndcg(row, k, starts=starts) for k in cuts},
    }
    return {name: float(value) for name, value in scores.items()}
