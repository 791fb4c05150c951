"""Rows sorted by length, cut by a token budget, encoded piece by piece, and put back in order.

The cut changes no number but rounding: each text is encoded by itself. It bounds the slots that
padding wastes (padded backbones) and the working set of one piece (packed ones).

Shapes: ``U`` texts, ``D`` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.batches import TokenRows


@dataclass(frozen=True)
class Pieces:
    """A plan: the rows in the order of encoding, and where each piece ends.

    Args:
        order: every row once, longest text first; equal lengths keep their order.
        ends: for each piece the position in ``order`` after its last row, rising.
    """

    order: np.ndarray
    ends: tuple[int, ...]

    def spans(self) -> list[tuple[int, int]]:
        """First and one-past-last position in ``order`` of each piece."""
        return list(pairwise((0, *self.ends)))


def plan_pieces(lengths: Sequence[int] | np.ndarray, budget: int, padded: bool) -> Pieces:
    """Rows sorted by length and cut into pieces of at most ``budget`` tokens.

    Longest first, so that a piece too large for the machine fails at once and not at the end.

    Args:
        lengths: number of tokens of each row.
        budget: most tokens of a piece; a single longer row is a piece by itself.
        padded: count the slots of the padded piece (rows times longest row), not its tokens.

    Raises:
        ValueError: ``budget`` is below 1.
    """
    if budget < 1:
        raise ValueError(f"a piece needs a budget of at least 1 token; got {budget}")
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    ends: list[int] = []
    count, used, longest = 0, 0, 0
    for position, size in enumerate(sizes[order].tolist()):
        longest = longest if count else size
        cost = (count + 1) * longest if padded else used + size
        if count and cost > budget:
            ends.append(position)
            count, used, longest = 0, 0, size
        count, used = count + 1, used + size
    if len(sizes):
        ends.append(len(sizes))
    return Pieces(order, tuple(ends))


def encode_in_pieces(
    rows: TokenRows,
    lengths: Sequence[int] | np.ndarray,
    pieces: Pieces,
    encode: Callable[[TokenRows, list[int]], Float[Tensor, "P D"]],
    done: Callable[[int], None] | None = None,
) -> Float[Tensor, "U D"]:
    """Embeddings in the order of ``rows``, encoded piece by piece.

    Args:
        rows: at least one text.
        lengths: the rows' lengths on the host, so that nothing waits for the device.
        pieces: the plan for these lengths.
        encode: the embeddings of a piece, given its rows and their lengths.
        done: called after each piece with its number of texts.
    """
    order = torch.from_numpy(pieces.order).to(rows.ids.device)
    ordered = rows.select(order)
    sizes = np.asarray(lengths, dtype=np.int64)[pieces.order]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    vectors = []
    for start, end in pieces.spans():
        piece = TokenRows(ordered.ids[offsets[start] : offsets[end]], ordered.lengths[start:end])
        vectors.append(encode(piece, sizes[start:end].tolist()))
        if done is not None:
            done(end - start)
    return torch.cat(vectors).index_select(0, torch.argsort(order))
