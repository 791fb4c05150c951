"""In-batch contrastive losses: cross-entropy of naming the positive among all candidates.

They compare what they get and never gather.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` rows of all ranks or candidates,
``M`` positives and hard negatives, ``D`` and ``E`` widths of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from sciembed_train.losses.row_chunks import DifferentiableLoss, RowLoss, row_losses
from sciembed_train.losses.similarity import at_least_fp32

# Which candidates the rows of a range are compared with.
Allowed = Callable[[slice], Bool[Tensor, "R N"]]


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


def info_nce(
    anchor: Float[Tensor, "B D"],
    positive: Float[Tensor, "B D"],
    temperature: float | Float[Tensor, ""] = 0.05,
    *,
    anchors: Float[Tensor, "N D"] | None = None,
    positives: Float[Tensor, "M D"] | None = None,
    first: int = 0,
    allowed: Allowed | None = None,
    allowed_back: Allowed | None = None,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each pair: finding the positive among the positives, and the anchor among anchors.

    ``-log(exp(a_i.p_i / t) / sum over k of exp(a_i.c_k / t))``, van den Oord, Li and Vinyals
    (2018), eq. 4, where ``c`` are all positives and hard negatives that are allowed; the same of
    ``p_i`` among the anchors; the loss of a pair is the mean of the two. As for `nt_xent`, the
    mean over ranks of the mean over their rows is the loss of one process.

    Args:
        anchor: unit vectors of this rank's anchors (`similarity.unit`).
        positive: unit vectors of their positives.
        temperature: ``t``, without unit, above 0; a tensor gets its gradient.
        anchors: unit vectors of the anchors of every rank; None on one rank alone.
        positives: likewise of their positives, and then of hard negatives.
        first: row of this rank's first pair in ``anchors``.
        allowed: whether each of ``positives`` is compared with some anchors, the own positive
            among them; None for all.
        allowed_back: likewise of ``anchors`` and positives.
        chunk: as for `row_cross_entropy`.

    Raises:
        ValueError: the temperature is 0 or less.
    """
    anchors = anchor if anchors is None else anchors
    positives = positive if positives is None else positives
    own = torch.arange(first, first + len(anchor), device=anchor.device)
    if isinstance(temperature, Tensor):
        # A learned temperature: the queries carry it, and its gradient.
        anchor, positive = (at_least_fp32(x) / temperature for x in (anchor, positive))
        temperature = 1.0
    there = row_cross_entropy(anchor, positives, own, None, temperature, chunk, allowed=allowed)
    back = row_cross_entropy(positive, anchors, own, None, temperature, chunk, allowed=allowed_back)
    return (there + back) / 2


def row_divergence(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "N D"],
    reference_queries: Float[Tensor, "B E"],
    reference_candidates: Float[Tensor, "N E"],
    temperature: float = 0.05,
    chunk: int | None = None,
    *,
    allowed: Allowed | None = None,
) -> Float[Tensor, " B"]:
    """How far each query's similarities have moved from those of a reference encoder.

    ``KL(r || s) = sum over k of r_k log(r_k / s_k)`` with ``s = softmax(q.c_k / t)`` and ``r`` the
    same of the reference, which stands first: where the reference saw similarity the encoder has
    to see it too. The gradient of a similarity is ``(s_k - r_k) / t``, none for the reference.
    Distillation of in-batch similarities; Hinton, Vinyals and Dean (2015) with equal temperatures.
    Both softmaxes are over the candidates that are allowed; a query without any has 0.

    Args:
        queries: unit vectors.
        candidates: unit vectors, of all ranks.
        reference_queries: the reference's unit vectors of the same texts, of any width.
        reference_candidates: likewise.
        temperature: ``t`` of both, without unit, above 0.
        chunk: queries at a time, see `row_chunks.row_losses`.
        allowed: which candidates count for the queries of a range; called again in the backward
            pass. None for all.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    check_temperature(temperature)
    reference_candidates = at_least_fp32(reference_candidates.detach())

    def losses(part: slice, candidates: Tensor, rows: Sequence[Tensor]) -> Tensor:
        scores = scaled_scores(rows[0], candidates, None, temperature)
        reference = scaled_scores(rows[1], reference_candidates, None, temperature)
        if allowed is None:
            return _divergences(reference, scores)
        # The same finite score on both sides: a share of 0, and no difference of infinities.
        left_out, lowest = ~allowed(part), torch.finfo(scores.dtype).min / 4
        scores, reference = (x.masked_fill(left_out, lowest) for x in (scores, reference))
        return _divergences(reference, scores)

    return row_losses(
        DifferentiableLoss(losses),
        at_least_fp32(candidates),
        at_least_fp32(queries),
        at_least_fp32(reference_queries.detach()),
        chunk=chunk,
    )


def _divergences(reference: Float[Tensor, "R N"], scores: Float[Tensor, "R N"]) -> Tensor:
    """``KL(softmax(reference) || softmax(scores))`` of each row."""
    reference, scores = reference.log_softmax(1), scores.log_softmax(1)
    return (reference.exp() * (reference - scores)).sum(1)


def row_cross_entropy(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "N D"],
    positive: Int[Tensor, " B"],
    exclude: Int[Tensor, " B"] | None,
    temperature: float,
    chunk: int | None = None,
    *,
    allowed: Allowed | None = None,
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
        allowed: whether each candidate is compared with the queries of a range, the positive
            among them; called again in the backward pass. None for all.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    check_temperature(temperature)
    return row_losses(
        _CrossEntropy(positive, exclude, temperature, allowed),
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
        allowed: Allowed | None = None,
    ) -> None:
        self.positive, self.exclude, self.temperature = positive, exclude, temperature
        self.allowed = allowed

    def _scores(self, part: slice, queries: Tensor, candidates: Tensor) -> Tensor:
        exclude = None if self.exclude is None else self.exclude[part]
        scores = scaled_scores(queries, candidates, exclude, self.temperature)
        if self.allowed is not None:
            scores.masked_fill_(~self.allowed(part), -torch.inf)
        return scores

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
