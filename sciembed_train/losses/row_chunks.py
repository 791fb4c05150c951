"""Losses that compare every row with every candidate, computed a chunk of rows at a time.

A table of all rows and all candidates grows as the square of the batch. Here the forward pass
makes it a chunk of rows at a time and keeps the losses alone, and the backward pass makes each
chunk's table again: memory grows as the rows do.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` candidates, ``D`` width of an
embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_SCORES = 2**24  # similarities or distances of a chunk: 64 MiB in fp32


class RowLoss(ABC):
    """A loss of each row that depends on the row's own values and on all candidates."""

    @abstractmethod
    def forward(
        self, part: slice, candidates: Tensor, rows: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """The losses [R] of a chunk, and a number of each row [R] that `backward` asks for.

        Args:
            part: which rows of the batch the chunk has.
            candidates: all of them [N D].
            rows: the chunk's part of each input that has a row per loss.
        """

    @abstractmethod
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
        """Compute the gradient of ``weights @ losses`` of a chunk.

        Args:
            part: as for `forward`.
            candidates: as for `forward`.
            rows: as for `forward`.
            kept: the numbers that `forward` gave [R].
            weights: gradient of each loss [R].
            to_candidates: where the gradient of the candidates is added; None if not needed.
            to_rows: where the gradient of each of ``rows`` is written; likewise.
        """


def row_losses(
    loss: RowLoss, candidates: Float[Tensor, "N D"], *rows: Tensor, chunk: int | None = None
) -> Float[Tensor, " B"]:
    """The loss of each row, with gradient, in the memory of one chunk.

    Args:
        loss: of a chunk of rows, forward and backward.
        candidates: what every row is compared with.
        rows: inputs with a row for each loss.
        chunk: rows at a time; None for as many as have `MAX_SCORES` scores.

    Raises:
        ValueError: the chunk is less than 1.
    """
    chunk = _chunk_rows(chunk, len(candidates))
    if isinstance(loss, DifferentiableLoss) and chunk >= len(rows[0]):
        # One chunk: its table may as well live until the backward pass, which is then quicker.
        return loss.forward(slice(0, len(rows[0])), candidates, rows)[0]
    return _RowChunks.apply(loss, chunk, candidates, *rows)  # pyright: ignore[reportReturnType]


class DifferentiableLoss(RowLoss):
    """A row loss whose gradient autograd computes.

    Args:
        losses: the losses [R] of a chunk, of the same arguments as `RowLoss.forward`, which
            depend on no random number.
    """

    def __init__(self, losses: Callable[[slice, Tensor, Sequence[Tensor]], Tensor]) -> None:
        self.losses = losses

    def forward(
        self, part: slice, candidates: Tensor, rows: Sequence[Tensor]
    ) -> tuple[Tensor, None]:
        """The losses of a chunk; nothing is kept."""
        return self.losses(part, candidates, rows), None

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
        """Compute the losses of a chunk again, and their gradient."""
        targets = [to_candidates, *to_rows]
        with torch.enable_grad():
            inputs = [
                tensor.detach().requires_grad_(target is not None)
                for tensor, target in zip((candidates, *rows), targets, strict=True)
            ]
            losses = self.losses(part, inputs[0], inputs[1:])
        needed = [tensor for tensor in inputs if tensor.requires_grad]
        gradients = iter(torch.autograd.grad(losses, needed, weights))
        if to_candidates is not None:
            to_candidates.add_(next(gradients))
        for target in to_rows:
            if target is not None:
                target.copy_(next(gradients))


class _RowChunks(torch.autograd.Function):
    """`row_losses`: loops over the chunks, in the forward and in the backward pass."""

    @staticmethod
    def forward(ctx: Any, loss: RowLoss, chunk: int, candidates: Tensor, *rows: Tensor) -> Tensor:
        ctx.loss, ctx.chunk = loss, chunk
        losses, kept = [], []
        for part in _parts(len(rows[0]), chunk):
            of_chunk, numbers = loss.forward(part, candidates, [x[part] for x in rows])
            losses.append(of_chunk)
            kept += [] if numbers is None else [numbers]
        ctx.save_for_backward(candidates, *rows, *([torch.cat(kept)] if kept else []))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        candidates, *inputs = ctx.saved_tensors
        needs_candidates, *needs_rows = ctx.needs_input_grad[2:]
        rows, kept = inputs[: len(needs_rows)], inputs[len(needs_rows) :]
        to_candidates = torch.zeros_like(candidates) if needs_candidates else None
        to_rows = [
            torch.empty_like(x) if needed else None
            for x, needed in zip(rows, needs_rows, strict=True)
        ]
        for part in _parts(len(rows[0]), ctx.chunk):
            ctx.loss.backward(
                part,
                candidates,
                [x[part] for x in rows],
                kept[0][part] if kept else None,
                gradients[0][part],
                to_candidates,
                [None if x is None else x[part] for x in to_rows],
            )
        return None, None, to_candidates, *to_rows


def _parts(rows: int, chunk: int) -> list[slice]:
    """The rows of each chunk; one empty chunk where there is no row."""
    return [slice(start, min(start + chunk, rows)) for start in range(0, max(rows, 1), chunk)]


def _chunk_rows(chunk: int | None, candidates: int) -> int:
    """Rows of a chunk: as asked for, or as many as have `MAX_SCORES` scores."""
    if chunk is None:
        return max(1, MAX_SCORES // max(1, candidates))
    if chunk < 1:
        raise ValueError(f"chunk counts rows and must be 1 or more; got {chunk}.")
    return chunk
