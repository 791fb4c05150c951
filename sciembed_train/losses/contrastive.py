"""In-batch contrastive losses: cross-entropy of naming the positive among all candidates.

They compare what they get and never gather.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` rows of all ranks or candidates,
``D`` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from sciembed_train.losses.row_chunks import RowLoss, row_losses
from sciembed_train.losses.similarity import at_least_fp32


def nt_xent(
    anchor: Float[Tensor, "B D"],
    positive: Float[Tensor, "B D"],
    temperature: float = 0.05,
    *,
    anchors: Float[Tensor, "N D"] | None = None,
    positives: Float[Tensor, "N D"] | None = None,
    first: int = 0,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each pair: finding its partner among the 2 N - 1 other rows, in both directions.

    With ``z = [a_1 .. a_N, p_1 .. p_N]``, ``s`` the dot product of unit vectors and ``t`` the
    temperature, ``-log(exp(s_ij / t) / sum over k != i of exp(s_ik / t))`` for ``(i, j)`` and
    for ``(j, i)``; the loss of a pair is the mean of the two. NT-Xent, Chen et al. (2020),
    eq. 1. In DeCLUTR, Giorgi et al. (2021), ``p`` is the unit vector of the mean of an anchor's
    positives and ``t`` is 0.05; the other anchors of the same document are negatives too.

    The mean over the rows here, then DDP's mean over ranks, is the loss of one process with all
    rows, if the gathered rows carry gradient (`distributed.gather`) and all ranks have
    equally many.

    Args:
        anchor: unit vectors of this rank's anchors (`similarity.unit`).
        positive: unit vectors of their positives.
        temperature: ``t``, without unit, above 0.
        anchors: unit vectors of the anchors of every rank; None on one rank alone.
        positives: likewise of their positives.
        first: row of this rank's first pair in ``anchors``.
        chunk: as for `row_cross_entropy`.

    Raises:
        ValueError: the temperature is 0 or less.
    """
    if anchors is None or positives is None:
        anchors, positives = anchor, positive
    candidates = torch.cat([anchors, positives])
    # On one rank every row is also a candidate: no second copy.
    one_rank = anchors is anchor and positives is positive
    queries = candidates if one_rank else torch.cat([anchor, positive])
    anchor_ids = torch.arange(first, first + len(anchor), device=anchor.device)
    positive_ids = anchor_ids + len(anchors)
    losses = row_cross_entropy(
        queries,
        candidates,
        torch.cat([positive_ids, anchor_ids]),
        torch.cat([anchor_ids, positive_ids]),
        temperature,
        chunk,
    )
    return losses.view(2, -1).mean(0)


def row_cross_entropy(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "N D"],
    positive: Int[Tensor, " B"],
    exclude: Int[Tensor, " B"] | None,
    temperature: float,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each query: cross-entropy of naming its positive among the candidates.

    ``log(sum over k of exp(q.c_k / t)) - q.c_p / t``, computed in at least fp32 whatever the
    autocast. Similarities are made a chunk of rows at a time and again in the backward pass, so
    that the memory needed beside the embeddings and their gradients is that of a chunk.

    Args:
        queries: rows, usually unit vectors.
        candidates: rows, usually unit vectors.
        positive: the right candidate of each query.
        exclude: a candidate that each query is not compared with (itself), another than the
            positive; None for no such.
        temperature: ``t``, without unit, above 0.
        chunk: queries at a time, see `row_chunks.row_losses`.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    check_temperature(temperature)
    return row_losses(
        _CrossEntropy(positive, exclude, temperature),
        at_least_fp32(candidates),
        at_least_fp32(queries),
        chunk=chunk,
    )


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless a temperature is above 0."""
    if temperature <= 0:
        raise ValueError(f"temperature has no unit and must be above 0; got {temperature}.")


class _CrossEntropy(RowLoss):
    """`row_cross_entropy` of a chunk, in the memory of one table of its similarities."""

    def __init__(
        self,
        positive: Int[Tensor, " B"],
        exclude: Int[Tensor, " B"] | None,
        temperature: float,
    ) -> None:
        self.positive, self.exclude, self.temperature = positive, exclude, temperature

    def _scores(self, part: slice, queries: Tensor, candidates: Tensor) -> Tensor:
        exclude = None if self.exclude is None else self.exclude[part]
        return scaled_scores(queries, candidates, exclude, self.temperature)

    def forward(
        self, part: slice, candidates: Tensor, rows: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The losses of a chunk, and the logarithm of each softmax's denominator."""
        scores = self._scores(part, rows[0], candidates)
        positive_score = scores.gather(1, self.positive[part, None]).squeeze(1)
        highest = scores.amax(1)
        sums = scores.sub_(highest[:, None]).exp_().sum(1)
        normalisers = highest + sums.log_()
        return normalisers - positive_score, normalisers

    def backward(
        self,
        part: slice,
        candidates: Tensor,
        rows: Sequence[Tensor],
        kept: Tensor | None,
        weights: Tensor,
        to_candidates: Tensor | None,
        to_rows: Sequence[Tensor | None],
    ) -> None:
        """The softmax without the positive, times the other vectors; one table, in place."""
        assert kept is not None
        shares = self._scores(part, rows[0], candidates)
        shares.sub_(kept[:, None]).exp_()  # softmax
        shares.scatter_add_(1, self.positive[part, None], -torch.ones_like(shares[:, :1]))
        shares.mul_((weights / self.temperature)[:, None])
        with torch.autocast(shares.device.type, enabled=False):
            if to_rows[0] is not None:
                torch.mm(shares, candidates, out=to_rows[0])
            if to_candidates is not None:
                to_candidates.addmm_(shares.T, rows[0])


def scaled_scores(
    queries: Float[Tensor, "R D"],
    candidates: Float[Tensor, "N D"],
    exclude: Int[Tensor, " R"] | None,
    temperature: float,
) -> Float[Tensor, "R N"]:
    """``q.c / t`` of every query and candidate, minus infinity where a candidate is left out."""
    scores: Any = _Products.apply(queries / temperature, candidates)
    if exclude is not None:
        scores.scatter_(1, exclude[:, None], -torch.inf)
    return scores


class _Products(torch.autograd.Function):
    """``q.c`` of all rows, which autocast lowers neither forward nor backward."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor) -> Tensor:
        ctx.save_for_backward(queries, candidates)
        with torch.autocast(queries.device.type, enabled=False):
            return queries @ candidates.T

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        queries, candidates = ctx.saved_tensors
        with torch.autocast(queries.device.type, enabled=False):
            to_queries = gradients[0] @ candidates if ctx.needs_input_grad[0] else None
            to_candidates = gradients[0].T @ queries if ctx.needs_input_grad[1] else None
        return to_queries, to_candidates
