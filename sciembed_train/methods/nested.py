"""Matryoshka representation learning: a loss on the first numbers of each vector, several times.

Kusupati, Bhatt, Rege, Wallingford, Sinha, Ramanujan, Howard-Snyder, Chen, Kakade, Jain and Farhadi
(2022), "Matryoshka Representation Learning".

Shapes: ``B`` rows of a column, ``D`` width, ``d`` one of the dims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sciembed_train.errors import UserError
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.loss import Loss


@dataclass(frozen=True)
class NestedLoss:
    """``sum over d of w_d * loss(first d numbers of every vector)``: eq. 1 of the paper.

    A sum and no mean, so that the step grows with the number of dims, as published and as in
    sentence-transformers' MatryoshkaLoss. The encoder runs once, and what ranks exchange is
    exchanged once, at full width. Without dims it is the loss itself.

    Args:
        width: ``D``, of the encoder's vectors.
        dims: how many numbers count, each once, in any order; none for the plain loss.
        weights: ``w_d`` of each of ``dims``, above 0; none for 1 each.
        normalize: whether the vectors are of unit length, and so the shorter ones again.

    Raises:
        UserError: a dim or weight is out of its range, or their numbers differ.
    """

    width: int
    dims: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    normalize: bool = False

    def __post_init__(self) -> None:
        for dim in self.dims:
            if not 1 <= dim <= self.width:
                raise UserError(
                    f"matryoshka_dims has {dim}; the encoder's vectors have {self.width} numbers, "
                    f"so each is from 1 to {self.width}."
                )
        if len(set(self.dims)) < len(self.dims):
            raise UserError(f"matryoshka_dims names one twice: {[*self.dims]}. Give each once.")
        if self.weights and len(self.weights) != len(self.dims):
            raise UserError(
                f"matryoshka_weights has {len(self.weights)} values, and matryoshka_dims "
                f"{len(self.dims)}; give one for each, or none for 1 each."
            )
        for weight in self.weights:
            if not 0 < weight < math.inf:
                raise UserError(f"matryoshka_weights has {weight}; a weight is above 0.")

    @property
    def total_weight(self) -> float:
        """What a loss that is the same at every width is multiplied by."""
        return math.fsum(self.weights or [1.0] * max(1, len(self.dims)))

    @property
    def record(self) -> dict[str, Any]:
        """For checkpoints and exports; empty where nothing is nested."""
        return {"matryoshka_dims": [*self.dims]} if self.dims else {}

    def __call__(self, loss: Callable[..., Loss], *columns: Float[Tensor, "_ D"]) -> Loss:
        """The weighted sum, with the parts of the widest, and ``loss_d`` of each dim.

        Args:
            loss: of columns of vectors, of any width that is the same for all.
            columns: those of all ranks among them. One that is given twice stays one.
        """
        if not self.dims:
            return loss(*columns)
        losses = {dim: loss(*self.first(dim, columns)) for dim in self.dims}
        weights = self.weights or [1.0] * len(losses)
        values = [
            weight * part.value for weight, part in zip(weights, losses.values(), strict=True)
        ]
        total = values[0]
        for value in values[1:]:
            total = total + value
        each = {f"loss_{dim}": part.value.detach() for dim, part in losses.items()}
        return Loss(total, {**losses[max(self.dims)].parts, **each})

    def scores(
        self,
        name: str,
        value: float,
        score: Callable[..., float],
        *columns: Float[Tensor, "_ D"],
    ) -> dict[str, float]:
        """``name_d`` of each dim: a score of the first d numbers of every vector.

        Args:
            name: of the score.
            value: what it is at the full width. Where that is nan, so it is at every width.
            score: of columns of vectors, of any width that is the same for all.
            columns: of held-out texts.
        """
        if math.isnan(value):
            return dict.fromkeys(score_names(name, self.dims), value)
        values = (
            value if dim == self.width else score(*self.first(dim, columns)) for dim in self.dims
        )
        return dict(zip(score_names(name, self.dims), values, strict=True))

    def first(self, dim: int, columns: Sequence[Float[Tensor, "_ D"]]) -> list[Tensor]:
        """The first ``dim`` numbers of every vector, scaled to unit length where those are."""
        if dim == self.width:
            return [*columns]
        shorter: dict[int, Tensor] = {}
        for column in columns:
            if id(column) not in shorter:
                numbers = column[:, :dim]
                shorter[id(column)] = unit(numbers) if self.normalize else numbers
        return [shorter[id(column)] for column in columns]


def score_names(score: str | None, dims: Sequence[int]) -> tuple[str, ...]:
    """What a score is called at each width, such as ``val/map_64``; nothing of no score."""
    return () if score is None else tuple(f"{score}_{dim}" for dim in dims)
