"""Rankings by distance: exact, in bounded memory, with deterministic ties.

Order everywhere: distance ascending, then paper id ascending (as text); never input order.
Distances are float32. They come from a kernel that takes each pair by itself, so that two papers
with the same vector are at bit-equal distances at any position; the faster matrix-product form
rounds by position, and would break such ties at random.

Shapes: ``Q`` queries, ``N`` papers, ``W`` wanted (relevant) papers of one query, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.losses.similarity import pairwise_euclidean, unit

BLOCK_ENTRIES = 2**25  # distances in memory at once: 128 MiB, whatever Q is
PART = 2**14  # papers that are copied at once, to the device or from a memory map


def id_order(ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
    """Position of each id in the sorted list of ids: decides between equal distances."""
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return order


def distance_rows(
    queries: Float32[np.ndarray, "Q D"],
    papers: Float32[np.ndarray, "N D"],
    device: torch.device | str = "cpu",
    entries: int = BLOCK_ENTRIES,
) -> Iterator[Float32[np.ndarray, " N"]]:
    """Euclidean distances of each query to every paper, one query after another.

    ``papers`` may be memory-mapped. ``entries`` distances are held at once (but at least one
    query's), beside ``papers`` itself and a copy of `PART` of them.
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
    """The papers in ranked order; ``order`` is `id_order`'s; UserError if one has no distance."""
    refuse_nan(distances)
    return np.lexsort((order, distances))


def ranks(
    distances: NDArray[np.floating],
    order: Int64[np.ndarray, " N"],
    wanted: Int64[np.ndarray, " W"],
    left_out: int | None = None,
) -> Int64[np.ndarray, " W"]:
    """Rank of each wanted paper among all, 1 the nearest, without sorting them all.

    ``order`` is `id_order`'s; ``left_out`` is no candidate and not wanted, such as the query
    itself.

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


def judged(
    places: Int64[np.ndarray, " W"],
    grades: NDArray[np.integer],
    threshold: int | None = None,
    recalls: Sequence[int] = (10,),
    cuts: Sequence[int] = (10,),
) -> dict[str, float]:
    """The metrics of one query whose candidates are a whole collection, by name.

    Args:
        places: rank of each judged paper, from `ranks`.
        grades: its grade.
        threshold: least grade that is relevant in the binary metrics, and part of their names
            (``map_grade1``); None where there are no grades: all are relevant (``map``).
        recalls: ranks for recall.
        cuts: ranks for nDCG (discount log2, linear gain), beside nDCG of the whole ranking.
    """
    row = np.zeros(int(places.max(initial=0)), dtype=np.int64)
    row[places - 1] = grades
    hits = row >= (1 if threshold is None else threshold)
    form = "" if threshold is None else f"_grade{threshold}"
    scores = {
        f"map{form}": metrics.average_precision(hits),
        f"mrr{form}": metrics.reciprocal_rank(hits),
        **{f"recall{k}{form}": metrics.recall_at(hits, k) for k in recalls},
        "ndcg_log2": metrics.ndcg(row),
        **{f"ndcg{k}_log2": metrics.ndcg(row, k) for k in cuts},
    }
    return {name: float(value) for name, value in scores.items()}
