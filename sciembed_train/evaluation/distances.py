"""Distances of queries to papers: exact, in bounded memory, float32.

They come from a kernel that takes each pair by itself, so that two papers with the same vector are
at bit-equal distances at any position. The product of matrices, many times as fast, rounds by
position and would break such ties at random; it is used for papers that it puts clearly before or
behind all those that a query's score is about.

Shapes: ``Q`` queries, ``N`` papers, ``W`` judged papers of one query, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from sciembed_train.errors import UserError
from sciembed_train.inference.vectors_by_id import VectorRows
from sciembed_train.losses.similarity import pairwise_euclidean, unit

BLOCK_ENTRIES = 2**25  # distances in memory at once: 128 MiB, whatever Q is
PART = 2**14  # papers that are copied at once, to the device or from a memory map
BUCKETS = 2**20  # of squared distances, to find those near a few levels
LONGEST = 1e36  # square of a length, below which no product of two vectors overflows
HALF_ULP = 2.0**-24  # largest relative error of one rounding in float32


def distance_rows(
    queries: Float32[np.ndarray, "Q D"],
    papers: Float32[np.ndarray, "N D"] | VectorRows,
    device: torch.device | str = "cpu",
    entries: int = BLOCK_ENTRIES,
    judged: Callable[[int], Int64[np.ndarray, " _"]] | None = None,
) -> Iterator[Float32[np.ndarray, " N"]]:
    """Euclidean distances of each query to every paper, one query after another.

    Args:
        queries: their vectors.
        papers: theirs; may be memory-mapped or lie in a file.
        device: where they are compared.
        entries: distances held at once (but at least one query's), beside ``papers`` itself and a
            copy of `PART` of them.
        judged: the papers that a query's score is about, by its number. Their distances, and which
            papers are nearer than each of them, as far and farther, are then the same as without;
            the other distances may differ in the last digits. Several times as fast on a CPU.
    """
    if judged is not None and _products_are_fp32(device):
        lengths = _squared_lengths(queries), _squared_lengths(papers)
        if all((squares < LONGEST).all() for squares in lengths):
            yield from _rows_by_product(queries, papers, judged, entries, *lengths)
            return
    for block, _ in _blocks(queries, papers, device, entries, pairwise_euclidean):
        yield from block


def _products_are_fp32(device: torch.device | str) -> bool:
    on_cpu = torch.device(device).type == "cpu"
    return on_cpu and torch.get_float32_matmul_precision() == "highest"


def _rows_by_product(
    queries: Float32[np.ndarray, "Q D"],
    papers: Float32[np.ndarray, "N D"] | VectorRows,
    judged: Callable[[int], Int64[np.ndarray, " _"]],
    entries: int,
    query_squares: Float64[np.ndarray, " Q"],
    paper_squares: Float64[np.ndarray, " N"],
) -> Iterator[Float32[np.ndarray, " N"]]:
    """`distance_rows` with ``judged``, and with the squares of all lengths."""
    longest = np.sqrt(paper_squares.max(initial=0))
    rounded = paper_squares.astype(np.float32)
    products = _blocks(queries, papers, "cpu", entries, lambda a, b: a @ b.T)
    for block, start in products:
        for row, at in zip(block, range(start, len(queries)), strict=False):
            query = queries[at]
            top = float(longest + np.sqrt(query_squares[at])) ** 2
            row *= -2
            row += rounded
            row += np.float32(query_squares[at])
            undecided = _undecided(row, query, papers[judged(at)], top)
            np.sqrt(np.maximum(row, 0, out=row), out=row)
            row[undecided] = _exact(query, papers[undecided])
            yield row


def _undecided(
    squared: Float32[np.ndarray, " N"],
    query: Float32[np.ndarray, " D"],
    judged: Float32[np.ndarray, "W D"],
    top: float,
) -> Int64[np.ndarray, " U"]:
    """The papers that rounding may have put on the wrong side of a judged one, and all judged ones.

    The squared distance by a product of ``D`` terms is wrong by at most ``(D / 2 + 4) u top``
    (``u`` half a unit in the last place, ``top`` the square of the sum of the two lengths), that by
    differences by ``(D + 4) u`` of itself (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1).
    """
    levels = _exact(query, judged).astype(np.float64) ** 2
    width = len(query)
    errors = HALF_ULP * ((width / 2 + 4) * top + (width + 4) * levels)
    scale = (BUCKETS - 1) / max(top, np.finfo(np.float32).tiny)
    undecided = np.zeros(BUCKETS, dtype=bool)
    # A bucket to either side, for the rounding of the buckets themselves.
    lowest = np.clip((levels - errors) * scale - 1, 0, BUCKETS - 1).astype(np.int64)
    highest = np.clip((levels + errors) * scale + 2, 0, BUCKETS).astype(np.int64)
    for low, high in zip(lowest, highest, strict=True):
        undecided[low:high] = True
    buckets = np.clip(squared * np.float32(scale), 0, BUCKETS - 1).astype(np.int32)
    return np.flatnonzero(undecided[buckets])


def _squared_lengths(
    vectors: Float32[np.ndarray, "N D"] | VectorRows,
) -> Float64[np.ndarray, " N"]:
    squares = np.empty(len(vectors), dtype=np.float64)
    for left in range(0, len(vectors), PART):
        part = vectors[left : left + PART].astype(np.float64)
        squares[left : left + PART] = np.einsum("nd,nd->n", part, part)
    return squares


def _exact(
    query: Float32[np.ndarray, " D"], papers: Float32[np.ndarray, "U D"]
) -> Float32[np.ndarray, " U"]:
    found = pairwise_euclidean(torch.from_numpy(query)[None], torch.from_numpy(papers))
    return found[0].numpy()


def _blocks(
    queries: Float32[np.ndarray, "Q D"],
    papers: Float32[np.ndarray, "N D"] | VectorRows,
    device: torch.device | str,
    entries: int,
    compare: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[Float32[np.ndarray, "B N"], int]]:
    """What a function makes of some queries and all papers, and the number of the first query."""
    step = max(1, min(len(queries), entries // max(1, len(papers))))
    width = max(1, min(PART, entries // step))
    for start in range(0, len(queries), step):
        block_queries = torch.as_tensor(queries[start : start + step], device=device)
        block = np.empty((len(block_queries), len(papers)), dtype=np.float32)
        for left in range(0, len(papers), width):
            part = torch.as_tensor(np.array(papers[left : left + width]), device=device)
            block[:, left : left + width] = compare(block_queries, part).cpu().numpy()
        yield block, start


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
