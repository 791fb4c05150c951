"""Losses of distances: the triplet margin loss, and a pair against many negatives.

They compare what they get and never gather.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` candidates of all ranks, ``D``
width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import relu

from sciembed_train.losses.row_chunks import DifferentiableLoss, row_losses
from sciembed_train.losses.similarity import at_least_fp32, euclidean, pairwise_euclidean


def triplet_margin(
    positive_distance: Float[Tensor, " B"],
    negative_distance: Float[Tensor, " B"],
    margin: float = 1.0,
) -> Float[Tensor, " B"]:
    """Loss of each triplet: how far the positive is from being closer by a margin.

    ``max(0, d(a, p) - d(a, n) + margin)``: SPECTER, Cohan et al. (2020), eq. 2, with the
    Euclidean distance of vectors that are not normalised (`similarity.euclidean`).

    Args:
        positive_distance: of each anchor to its positive.
        negative_distance: of each anchor to its negative.
        margin: in the unit of the distance, 0 or more.

    Raises:
        ValueError: the margin is negative.
    """
    if margin < 0:
        raise ValueError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )
    return relu(positive_distance - negative_distance + margin)


def euclidean_margin(
    anchor: Float[Tensor, "B D"],
    positive: Float[Tensor, "B D"],
    negative: Float[Tensor, "B D"],
    margin: float = 1.0,
) -> Float[Tensor, " B"]:
    """`triplet_margin` of the Euclidean distances of vectors."""
    return triplet_margin(euclidean(anchor, positive), euclidean(anchor, negative), margin)


def candidate_loss(
    positive_distance: Float[Tensor, " B"],
    anchors: Float[Tensor, "B D"],
    candidates: Float[Tensor, "N D"],
    is_negative: Callable[[slice], Bool[Tensor, "R N"]],
    *,
    margin: float,
    temperature: float | None,
    distance: Callable[
        [Float[Tensor, "R D"], Float[Tensor, "N D"]], Float[Tensor, "R N"]
    ] = pairwise_euclidean,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each pair against all its negatives among the candidates: 0 where it has none.

    The mean of the triplet margin losses; with a temperature the cross-entropy of
    ``-distance / temperature`` among the positive and the negatives.

    Args:
        positive_distance: of each anchor to its positive.
        anchors: their vectors.
        candidates: vectors that may be negatives, of all ranks or of this one.
        is_negative: whether each candidate is a negative of each anchor of a range; called again
            in the backward pass.
        margin: in the unit of the distance.
        temperature: above 0, or None for the margin.
        distance: of each anchor of a chunk to each candidate.
        chunk: anchors at a time, see `row_chunks.row_losses`.

    Raises:
        ValueError: the chunk is less than 1.
    """

    def losses(part: slice, candidates: Tensor, rows: Sequence[Tensor]) -> Tensor:
        positive, anchors = rows
        mask = is_negative(part)
        gap = positive[:, None] - distance(anchors, candidates)  # one table from here on
        if temperature is None:
            hinges = relu(gap.add_(margin).masked_fill_(~mask, 0.0), inplace=True)
            return hinges.sum(1) / mask.sum(1).clamp(min=1)
        logits = gap.div_(temperature).masked_fill_(~mask, -torch.inf)
        highest = logits.detach().amax(1).clamp(min=0)  # the positive's own is 0
        sums = logits.sub_(highest[:, None]).exp_().sum(1)
        return highest + (sums + torch.exp(-highest)).log()

    return row_losses(
        DifferentiableLoss(losses),
        at_least_fp32(candidates),  # once, so that its gradient is summed in fp32 too
        positive_distance,
        anchors,
        chunk=chunk,
    )
