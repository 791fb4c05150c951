"""Unit vectors of papers from the citations between them, by random projection.

With the symmetric adjacency matrix ``A`` (1 where either paper cites the other), ``d`` its degrees
and ``D`` these on a diagonal, let ``S = D^-1/2 A D^-1/2`` and
``L_ij = A_ij log(1 + v / (d_i d_j))``,
``v = sum d``: an edge counts by how unexpected it is, little between papers that are much cited.
The vector of a paper is its row of ``(S^2 + S^3 + S^4) L R``, where ``R`` has random signs: papers
are near where short walks lead from both to the same papers. The inner product of two rows stays
what it was before the projection but for about ``1 / sqrt(dimension)`` of their lengths (Johnson
and Lindenstrauss 1984; as an embedding of graphs FastRP, Chen et al. 2019; the logarithm as in LINE
and NetMF, Qiu et al. 2018). It was chosen by measurement among factorisations of the same matrices:
``benchmarks/quality/graph_embedding.md``.

Entries are whole numbers, the unit vector times `SCALE`, so that any order of summation in 32-bit
floats gives the same inner products, whatever the number of threads and the library: by Cauchy and
Schwarz no partial sum of an inner product reaches 2^24.

Shapes: ``V`` papers of the graph, ``E`` citations, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError

SCALE = 4000  # times the root of `MOST_DIMENSIONS` roundings of 1/2, squared: below 2^24
FIRST_STEP, LAST_STEP = 2, 4  # of S
ROWS = 8192  # that are normalised at once
MATRICES = 4  # of a block of columns that are held at once


def check_installed() -> None:
    """Raise `UserError` unless sparse matrices can be multiplied."""
    try:
        import scipy.sparse  # noqa: F401
    except ImportError as error:
        raise UserError(
            "Triplets from neighbours (triplets_from: neighbours) need the package scipy, which "
            "is not installed: pip install 'sciembed_train[graph]'."
        ) from error


def adjacency(edges: NDArray[np.integer], nodes: int) -> Any:
    """Symmetric 0/1 matrix of citations ``[E, 2]`` as a sparse matrix ``[V, V]``."""
    from scipy.sparse import csr_matrix

    symmetric = np.concatenate([edges, edges[:, ::-1]])
    matrix = csr_matrix(
        (np.ones(len(symmetric)), (symmetric[:, 0], symmetric[:, 1])), shape=(nodes, nodes)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def components(matrix: Any) -> NDArray[np.int32]:
    """The connected component of each paper ``[V]``."""
    from scipy.sparse.csgraph import connected_components

    return connected_components(matrix, directed=False)[1]


def walk_matrices(matrix: Any) -> tuple[Any, Any]:
    """``S`` and ``L`` of an adjacency matrix, sparse ``[V, V]``."""
    from scipy.sparse import diags

    degrees = np.maximum(np.asarray(matrix.sum(1)).ravel(), 1.0)
    root = diags(1.0 / np.sqrt(degrees))
    step = (root @ matrix @ root).tocsr()
    step.sort_indices()
    first = matrix.copy()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    first.data = np.log1p(degrees.sum() / (degrees[rows] * degrees[matrix.indices]))
    return step, first


def write_embedding(
    to: Path,
    matrix: Any,
    dimension: int,
    seed: int,
    memory: int,
    on_columns: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors ``[V, D]``, times `SCALE` and rounded, on disk; which papers have one.

    A paper whose signs cancel out has a row of zeros, which is no vector.

    Args:
        to: the file, ``.npy``.
        matrix: `adjacency`.
        dimension: ``D``.
        seed: of the signs.
        memory: bytes that a block of columns may take.
        on_columns: gets the number of columns done and of all.
    """
    step, first = walk_matrices(matrix)
    nodes = matrix.shape[0]
    vectors = np.lib.format.open_memmap(to, "w+", np.float32, (nodes, dimension))
    width = int(np.clip(memory // (MATRICES * 8 * max(nodes, 1)), 1, dimension))
    for low in range(0, dimension, width):
        high = min(low + width, dimension)
        walked = np.stack([_signs(seed, column, nodes) for column in range(low, high)], axis=1)
        walked = first @ walked
        total = np.zeros_like(walked)
        for number in range(1, LAST_STEP + 1):
            walked = step @ walked
            if number >= FIRST_STEP:
                total += walked
        vectors[:, low:high] = total
        if on_columns:
            on_columns(high, dimension)
    known = np.zeros(nodes, np.bool_)
    for low in range(0, nodes, ROWS):
        rows = vectors[low : low + ROWS].astype(np.float64)
        lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
        vectors[low : low + ROWS] = np.rint(SCALE * rows / np.where(lengths > 0, lengths, 1.0))
        known[low : low + ROWS] = lengths[:, 0] > 0
    return vectors, known


def _signs(seed: int, column: int, count: int) -> NDArray[np.float64]:
    """A column of ``R``, drawn by itself, so that the size of blocks does not matter."""
    drawn = np.random.default_rng([seed, column]).integers(0, 2, count, dtype=np.int8)
    return 2 * drawn.astype(np.float64) - 1
