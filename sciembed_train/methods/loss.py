"""A method's loss, and the precision that losses and scores are computed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


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
