"""What the validation of every method does: vectors of held-out texts, gathered from all ranks.

Shapes: ``B`` rows of a batch, ``D`` width, ``P`` held-out texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.encoder.encoder import Encoder


@runtime_checkable
class HeldOut(Protocol):
    """Encodes the held-out texts during validation, and scores their vectors."""

    def clear(self) -> None:
        """Forget the last validation."""
        ...

    def add(self, encoder: Encoder, batch: Any) -> None:
        """Encode a batch of held-out texts."""
        ...

    def scores(self, dev: Any, device: torch.device) -> dict[str, float]:
        """The scores by name without ``val/``, the same on every rank; none if nothing was added.

        Every rank calls it, also one that has encoded nothing: it gathers.
        """
        ...


class HeldOutVectors:
    """The vectors that a validation has encoded on this rank, by slot in the list of all texts.

    Args:
        columns: vectors per slot, such as an anchor's and its positives' mean.
    """

    def __init__(self, columns: int = 1) -> None:
        self._slots: list[Tensor] = []
        self._columns: list[list[Tensor]] = [[] for _ in range(columns)]

    def add(self, slots: Int[Tensor, " B"], *vectors: Float[Tensor, "B D"]) -> None:
        """Keep the vectors of a batch, one tensor per column."""
        self._slots.append(slots)
        for column, batch in zip(self._columns, vectors, strict=True):
            column.append(batch)

    def gather(self, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """Slots and columns of all ranks, rank after rank; every rank calls it."""
        slots = gather_integers(self._slots, device)
        return slots, gather_columns(self._columns, device)

    def table(
        self, texts: int, device: torch.device
    ) -> tuple[Float[Tensor, "P D"], Bool[Tensor, " P"]] | None:
        """The vectors of all ranks by slot, and which slots were encoded; None if none was."""
        slots, (vectors,) = self.gather(device)
        if not len(slots):
            return None
        table = vectors.new_zeros(texts, vectors.shape[1])
        table[slots] = vectors
        encoded = torch.zeros(texts, dtype=torch.bool, device=device)
        encoded[slots] = True
        return table, encoded


def scores_of_finite(scores: dict[str, float], *vectors: Tensor) -> dict[str, float]:
    """The scores, or nan for each of them where a vector they are of is not finite.

    A comparison with nan is false, and so would count as a hit or as a miss.
    """
    if all(bool(rows.isfinite().all()) for rows in vectors):
        return scores
    return dict.fromkeys(scores, math.nan)


def gather_integers(batches: Sequence[Tensor], device: torch.device) -> Int[Tensor, " _"]:
    """The integers of all ranks, rank after rank."""
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return distributed.gather_ragged(torch.cat([none, *batches]))


def gather_columns(columns: Sequence[Sequence[Tensor]], device: torch.device) -> list[Tensor]:
    """Each column's rows ``[B, D]`` of all ranks, rank after rank, of one width and type.

    A rank may have no row, not even a shape.
    """
    own = next((batch for column in columns for batch in column), None)
    shape = [own.shape[1], own.element_size()] if own is not None else [0, 0]
    known = distributed.gather_ragged(torch.tensor([shape], device=device)).amax(0).tolist()
    dtype = torch.float64 if known[1] == 8 else torch.float32
    none = torch.zeros((0, known[0]), dtype=dtype, device=device)
    return [distributed.gather_ragged(torch.cat([none, *column])) for column in columns]
