"""The supervised contrastive loss: rows of one class are positives of each other.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` rows of all ranks, ``D`` width of
an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.losses.contrastive import check_temperature, scaled_scores
from sciembed_train.losses.row_chunks import DifferentiableLoss, row_losses
from sciembed_train.losses.similarity import at_least_fp32


def supervised_contrastive(
    rows: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    temperature: float = 0.3,
    *,
    others: Float[Tensor, "N D"] | None = None,
    other_labels: Int[Tensor, " N"] | None = None,
    first: int = 0,
    count_itself: bool = False,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each row: naming the rows of its own class among all others.

    With ``s`` the dot product of unit vectors, ``t`` the temperature and ``P`` the other rows of
    the same class, ``-1 / |P| * sum over p in P of log(exp(s_ip / t) / sum over k != i of
    exp(s_ik / t))``: Khosla et al. (2020), eq. 2. A row without another of its class has 0.

    Args:
        rows: unit vectors of this rank (`similarity.unit`).
        labels: the number of each row's class.
        temperature: ``t``, without unit, above 0.
        others: unit vectors of every rank; None on one rank alone.
        other_labels: their classes.
        first: number of this rank's first row in ``others``.
        count_itself: divide by ``|P| + 1``, as SciRepEval's code does.
        chunk: rows at a time, see `row_chunks.row_losses`.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    check_temperature(temperature)
    if others is None or other_labels is None:
        others, other_labels = rows, labels
    if len(others) < 2:  # one row alone is compared with nothing
        return rows.sum(1) * 0
    own_ids = torch.arange(first, first + len(rows), device=rows.device)

    def losses(part: slice, candidates: Tensor, rows: Sequence[Tensor]) -> Tensor:
        scores = scaled_scores(rows[0], candidates, own_ids[part], temperature)
        positives = (labels[part, None] == other_labels).scatter_(1, own_ids[part, None], False)
        counts = positives.sum(1)
        positive_scores = scores.masked_fill(~positives, 0.0).sum(1)
        total = counts * torch.logsumexp(scores, 1) - positive_scores
        return total / (counts + int(count_itself)).clamp(min=1)

    return row_losses(
        DifferentiableLoss(losses), at_least_fp32(others), at_least_fp32(rows), chunk=chunk
    )
