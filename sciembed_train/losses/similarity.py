"""Distances and similarities of embeddings.

A distance is smaller when closer, a similarity larger.
Shapes: ``B`` pairs of rows, ``N`` and ``M`` rows of two lists, ``D`` width of an embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# torch.nn.functional.pairwise_distance adds this to every difference, and so the triplet margin
# loss of every SPECTER code does. It keeps the gradient of equal rows finite.
EPSILON = 1e-6
BLOCK = 2048  # rows of either list at once in float64, in the gradient of distances
SHORTEST = 1e-8  # length below which a row counts as zeros; torch.cosine_similarity's small number


def euclidean(
    a: Float[Tensor, "*B D"], b: Float[Tensor, "*B D"], epsilon: float = EPSILON
) -> Float[Tensor, "*B"]:
    """Distance of each row of ``a`` to its row of ``b``: ``|| a - b + epsilon ||``.

    As in ``torch.nn.TripletMarginLoss`` with ``p = 2``, and as there computed in at least fp32.
    """
    return torch.linalg.vector_norm(at_least_fp32(a) - at_least_fp32(b) + epsilon, dim=-1)


def pairwise_euclidean(
    a: Float[Tensor, "N D"], b: Float[Tensor, "M D"], chunk: int | None = None
) -> Float[Tensor, "N M"]:
    """Distance ``|| a_i - b_j ||`` of every row of ``a`` to every row of ``b``.

    Computed from the differences themselves: the quicker ``a.a + b.b - 2 a.b`` loses half of the
    digits between close rows, which are the ones that a ranking is about. The gradient, which is a
    difference too, keeps them as well.

    Args:
        a: rows.
        b: rows of the same width.
        chunk: rows of ``a`` at a time, for a bounded working set; None takes all at once.
    """
    a, b = at_least_fp32(a), at_least_fp32(b)
    if not len(a):
        return a.new_empty(0, len(b))
    if not chunk or chunk >= len(a):
        return _Distances.apply(a, b)  # pyright: ignore[reportReturnType]
    parts: list[Any] = [_Distances.apply(part, b) for part in a.split(chunk)]
    return torch.cat(parts)


class _Distances(torch.autograd.Function):
    """`torch.cdist`, with a gradient that needs no table of all differences.

    torch makes one of ``N x M x D`` numbers on a GPU. Here, with ``w_ij`` the gradient over the
    distance, the gradient of ``a_i`` is ``a_i * sum of w_ij - sum of w_ij b_j``: products of
    matrices. Between close rows the two are nearly equal, so they are computed in float64, and on
    rows without their mean, which is the larger part of most encoders' vectors.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(a, b, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        a, b, distances = ctx.saved_tensors
        # Equal rows have no direction between them: a gradient of 0, as in torch.
        weights = (gradients[0] / distances).masked_fill_(distances == 0, 0.0)
        to_a, to_b = (
            torch.zeros_like(rows) if needed else None
            for rows, needed in zip((a, b), ctx.needs_input_grad, strict=True)
        )
        # Apple's GPUs have no float64.
        wide = torch.float32 if a.device.type == "mps" else torch.float64
        mean = b.mean(0, dtype=wide)
        with torch.autocast(a.device.type, enabled=False):
            for i in range(0, len(a), BLOCK):
                for j in range(0, len(b), BLOCK):
                    rows, columns = slice(i, i + BLOCK), slice(j, j + BLOCK)
                    shares = weights[rows, columns].to(wide)
                    a_block = a[rows].to(wide) - mean
                    b_block = b[columns].to(wide) - mean
                    if to_a is not None:
                        to_a[rows] += _weighted_differences(a_block, shares, b_block)
                    if to_b is not None:
                        to_b[columns] += _weighted_differences(b_block, shares.T, a_block)
        return to_a, to_b


def _weighted_differences(rows: Tensor, shares: Tensor, others: Tensor) -> Tensor:
    """``sum over j of w_ij (a_i - b_j)``."""
    return torch.addmm(rows * shares.sum(1, keepdim=True), shares, others, alpha=-1)


def unit(rows: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """Each row divided by its Euclidean length, in at least fp32.

    A row shorter than `SHORTEST` has no meaningful direction: it stays as it is, and its
    gradient passes unchanged. Divided by a small number, as ``torch.cosine_similarity`` and
    ``normalize`` do, a row of zeros would get a gradient of 1e8 and more.
    """
    rows = at_least_fp32(rows)
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / lengths.masked_fill(lengths < SHORTEST, 1.0)


def at_least_fp32(rows: Tensor) -> Tensor:
    """Half precision raised to fp32; anything else as it is."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
