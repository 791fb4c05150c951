"""The nearest papers of each query by inner product: exact, in bounded memory.

A block of queries is multiplied with a tile of papers at a time. Scores are whole numbers
(`graph_embedding`), so a score and a paper's place make one number each; the highest of these are
kept, and of equal scores those of the lower places.

Shapes: ``B`` queries of a block, ``M`` papers, ``T`` papers of a tile, ``K`` neighbours, ``D``
width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK, TILE = 256, 8192
_PLACE = np.int64(2**32 - 1)
_NOTHING = np.iinfo(np.int64).min


def nearest_neighbours(
    vectors: NDArray[np.float32],
    papers: NDArray[np.integer],
    queries: NDArray[np.integer],
    kept: int,
    block: int = BLOCK,
    tile: int = TILE,
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Blocks of the queries, and the places in ``papers`` of their neighbours ``[B, K]``.

    The nearest comes first, a query is no neighbour of itself, and -1 stands after the last.

    Args:
        vectors: whole numbers, of papers and queries.
        papers: rows of the vectors among which neighbours are sought ``[M]``, ascending.
        queries: rows of the vectors.
        kept: ``K``.
        block: ``B``.
        tile: ``T``.
    """
    for first in range(0, len(queries), block):
        rows = queries[first : first + block]
        left = np.asarray(vectors[rows])
        best = np.full((len(rows), kept), _NOTHING, np.int64)
        for low in range(0, len(papers), tile):
            columns = papers[low : low + tile]
            scores = left @ np.asarray(vectors[columns]).T
            positions = np.searchsorted(columns, rows)
            in_tile = positions < len(columns)
            in_tile[in_tile] = columns[positions[in_tile]] == rows[in_tile]
            scores[np.flatnonzero(in_tile), positions[in_tile]] = -np.inf
            best = _with_tile(best, scores, low)
        best = np.sort(best, axis=1)[:, ::-1]
        places = np.where(best == _NOTHING, -1, _PLACE - (best & _PLACE))
        yield slice(first, first + len(rows)), places


def _with_tile(best: NDArray[np.int64], scores: NDArray[np.float32], low: int) -> NDArray[np.int64]:
    """Merge the scores ``[B, T]`` of places from ``low`` on into every row's ``K`` highest numbers.

    In any order; scores of minus infinity are never kept.
    """
    kept = best.shape[1]
    least = best.min(axis=1)
    floor = np.where(least == _NOTHING, np.finfo(np.float32).min, least >> 32)
    # Few scores pass once some tiles are done: making and sorting numbers touches these alone.
    query, column = np.divmod(
        np.flatnonzero(scores >= floor.astype(np.float32)[:, None]), scores.shape[1]
    )
    if not len(query):
        return best
    counts = np.bincount(query, minlength=len(best))
    rank = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    merged = np.full((len(best), kept + int(counts.max())), _NOTHING, np.int64)
    merged[:, :kept] = best
    whole = scores[query, column].astype(np.int64)
    merged[query, kept + rank] = (whole << 32) + (_PLACE - low - column)
    return np.partition(merged, merged.shape[1] - kept, axis=1)[:, -kept:]
