"""The most similar sentences of two papers, by the vectors of sentences and of contexts.

Of papers with sentences ``q_i`` and ``p_j``, cited together in sentences ``c`` (their contexts),
aligned are by the contexts ``i = argmax_i max_c s(q_i, c)`` and ``j = argmax_j max_c s(p_j, c)``,
which may come from different contexts, and by the abstracts ``i, j = argmax_ij s(q_i, p_j)``
(Aspire, Mysore, Cohan and Hope 2022, section 3.3). Of equals the first is taken.

Shapes: ``N`` pairs, ``B`` of them compared at once, ``S`` and ``R`` vectors of groups, ``D`` wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**14  # pairs compared at once, at most
NUMBERS = 2**24  # float64 numbers of the padded vectors that are compared at once: 128 MiB
MOST = np.iinfo(np.int16).max  # a sentence of a higher number is beyond every model's longest text

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Grouped:
    """Vectors in groups, such as the sentences of each paper.

    Args:
        vectors: of all groups; may be memory-mapped.
        range_starts: the index of each group's first vector, and then the number of all.
        rows: the row of each in ``vectors``, where it is not its own index.
    """

    vectors: Vectors
    range_starts: Ints
    rows: Ints | None = None

    @property
    def sizes(self) -> Ints:
        """The number of vectors of each group."""
        return np.diff(self.range_starts)

    def padded(self, groups: Ints) -> tuple[Floats, Ints]:
        """The vectors of groups, ``[B, S, D]``, and the size of each, ``[B]``.

        A shorter group repeats its last vector; the rows of an empty group mean nothing.
        """
        starts = self.range_starts[groups]
        counts = self.range_starts[groups + 1] - starts
        most = max(1, int(counts.max()))
        if not self.range_starts[-1]:
            return np.zeros((len(groups), 1, self.vectors.shape[1])), counts
        within = np.minimum(np.arange(most), np.maximum(counts - 1, 0)[:, None])
        rows = np.minimum(starts[:, None] + within, self.range_starts[-1] - 1)
        rows = rows if self.rows is None else self.rows[rows]
        return self.vectors[rows].astype(np.float64), counts


def similarities(a: Floats, b: Floats, by: str) -> Floats:
    """The similarity of every vector of ``a`` to every one of ``b``: ``[B, S, D]``, ``[B, R, D]``.

    ``by`` is ``dot``, ``cosine`` or ``euclidean``, which is minus the square of the distance: it
    orders as minus the distance does.
    """
    if by == "cosine":
        a, b = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-30) for v in (a, b))
    products = a @ b.swapaxes(1, 2)
    if by == "euclidean":
        lengths = [np.einsum("bsd,bsd->bs", v, v) for v in (a, b)]
        products = 2 * products - lengths[0][:, :, None] - lengths[1][:, None, :]
    return products


def align_pairs(pairs: Ints, sentences: Grouped, contexts: Grouped, by: str) -> NDArray[np.int16]:
    """The aligned sentences of pairs, ``[N, 4]``: by contexts, then by the abstracts.

    ``pairs`` ``[N, 2]`` are groups of ``sentences``, of which each has one or more; ``contexts``
    are of each pair in turn, and a pair without any is -1, -1 by contexts.
    """
    aligned = np.full((len(pairs), 4), -1, np.int64)
    sizes = np.stack([*sentences.sizes[pairs.T], contexts.sizes])
    order = np.argsort(sizes.sum(0), kind="stable")  # by size, for little padding
    start = 0
    while start < len(order):
        count = _pairs_at_once(sizes[:, order[start : start + CHUNK]], sentences.vectors.shape[1])
        rows = order[start : start + count]
        start += count
        a, a_sizes = sentences.padded(pairs[rows, 0])
        b, b_sizes = sentences.padded(pairs[rows, 1])
        c, c_sizes = contexts.padded(rows)
        has_context = c_sizes > 0
        for side, (papers, counts) in enumerate(((a, a_sizes), (b, b_sizes))):
            best = np.minimum(similarities(papers, c, by).max(2).argmax(1), counts - 1)
            aligned[rows[has_context], side] = best[has_context]
        best = similarities(a, b, by).reshape(len(rows), -1).argmax(1)
        for side, (column, counts) in enumerate(
            zip(np.divmod(best, b.shape[1]), (a_sizes, b_sizes), strict=True), start=2
        ):
            # A repeated last vector may be nearer by rounding; it is the last sentence.
            aligned[rows, side] = np.minimum(column, counts - 1)
    return np.minimum(aligned, MOST).astype(np.int16)


def _pairs_at_once(sizes: Ints, width: int) -> int:
    """The number of the next pairs of these sizes that are compared at once; at least one."""
    most = np.maximum.accumulate(np.maximum(sizes, 1), axis=1)
    padded = most.sum(0) * width + most[0] * (most[1] + most[2]) + most[1] * most[2]
    return max(1, int((padded * np.arange(1, len(padded) + 1) <= NUMBERS).sum()))
