"""What is merged, and with which weights. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciembed_train.errors import UserError

# How far from 1 the weights' sum may be: 3 x 0.333 is an error, 0.1 + 0.2 + 0.7 is not.
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class MergeSettings:
    """What is merged.

    Args:
        models: folders or hub names of two encoders or more, runs among them. What is no weight,
            such as the longest text, is the first one's.
        to: the folder to write.
        weights: of each model, from 0 to 1, 1 in all; equal ones by default.
        pooling: of folders that record none; by default what another of them records.
        similarity: the same for what vectors are compared by.
        overwrite: replace an earlier export.

    Raises:
        UserError: there is one model only, or the weights do not fit.
    """

    models: list[str]
    to: str | Path
    weights: list[float] | None = None
    pooling: Literal["cls", "mean"] | None = None
    similarity: Literal["euclidean", "cosine"] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise UserError(f"Give two models or more to merge; got {len(self.models)}.")
        if self.weights is not None:
            check_weights(self.weights, len(self.models))

    @property
    def shares(self) -> list[float]:
        """The weight of each model."""
        return self.weights or [1 / len(self.models)] * len(self.models)


def check_weights(weights: Sequence[float], models: int) -> None:
    """See that there is a weight for each model, and that they are shares of 1.

    Raises:
        UserError: they are not.
    """
    shown = " ".join(f"{weight:g}" for weight in weights)
    if len(weights) != models:
        raise UserError(f"--weights {shown}: {len(weights)} for {models} models; give one each.")
    if any(not 0 <= weight <= 1 for weight in weights):
        raise UserError(f"--weights {shown}: expected numbers from 0 to 1.")
    total = sum(weights)
    if abs(total - 1) > SUM_TOLERANCE:
        remedy = "one above 0"
        if total:
            remedy = " ".join(f"{weight / total:.7g}" for weight in weights)
        raise UserError(f"--weights {shown}: add up to {total:g}, not to 1; give {remedy}.")
