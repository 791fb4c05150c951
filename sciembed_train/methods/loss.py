"""A method's loss, the precision it is computed in, and the ranges of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class Loss:
    """The loss of a batch or of a micro-batch.

    Args:
        value: mean over the examples, with gradient.
        parts: more means over the examples, without gradient, by the names they are logged under.
    """

    value: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]


def full_precision(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The vectors in at least fp32, whatever the encoder ran in: losses are computed there."""
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


def widest_float(like: Tensor) -> torch.dtype:
    """The widest floating type of the tensor's device: Apple's GPUs have no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def check_margin(margin: float) -> None:
    """Raise UserError unless it is 0 or more."""
    if not margin >= 0:
        raise UserError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )


def check_temperature(temperature: float | None, negatives: str, compared: str) -> None:
    """Raise UserError unless it is None, or above 0 where many negatives are compared."""
    if temperature is not None and negatives == "one":
        raise UserError(f"temperature belongs to negatives: {compared}; one negative has a margin.")
    if temperature is not None and not temperature > 0:
        raise UserError(f"temperature must be above 0, or null; got {temperature}.")
