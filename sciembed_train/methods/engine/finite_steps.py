"""Steps whose loss or gradient is not finite change no weight; the host need not wait to know.

The fused AdamW skips a step where a number on the device says so (``found_inf``, which fp16's
scaler uses otherwise). So the weights stay those before the step, and the count of such steps can
be read later, where the host waits for the device anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train import distributed


@dataclass(frozen=True)
class BadSteps:
    """What the host reads of the steps that were left out.

    Args:
        in_a_row: of them, up to now.
        total: in this process.
        latest: number of the last one, from 1; 0 for none.
        loss: of that step, on this rank.
        grad_norm: of that step, as this rank sees it.
    """

    in_a_row: int
    total: int
    latest: int
    loss: float
    grad_norm: float


class FiniteSteps:
    """Which steps are left out, on the device.

    After ``most_in_a_row`` bad steps in a row every later one is left out too, so that the weights
    are still those before the first of them when the host reads of it.

    Attributes:
        most_in_a_row: 1 to keep the weights of the first bad step.
    """

    def __init__(self, most_in_a_row: int = 1) -> None:
        self.most_in_a_row = most_in_a_row
        self._counts: Tensor | None = None  # in a row, in all, the last one's number
        self._values: Tensor | None = None  # its loss and gradient norm

    def leaves_out(
        self, step: int, loss: Float[Tensor, ""], grad_norm: Tensor, overflow: bool = False
    ) -> Float[Tensor, ""]:
        """1 on the device where the step must change nothing, else 0; the same on every rank.

        Args:
            step: its number, from 1.
            loss: of this rank.
            grad_norm: over all ranks.
            overflow: whether the gradient may be fp16's own overflow, which its scaler handles.
        """
        norm = distributed.local_part(grad_norm).detach().float()
        bad = ~loss.detach().isfinite()
        if not overflow:
            bad = bad | ~norm.isfinite()
        if distributed.world_size() > 1:
            bad = distributed.sum_over_ranks(bad.float()) > 0
        counts = bad.new_zeros(3, dtype=torch.int64) if self._counts is None else self._counts
        values = norm.new_zeros(2) if self._values is None else self._values
        ended = counts[0] >= self.most_in_a_row
        now = torch.stack([counts[0] + 1, counts[1] + 1, torch.full_like(counts[0], step)])
        good = torch.stack([torch.zeros_like(counts[0]), counts[1], counts[2]])
        self._counts = torch.where(ended, counts, torch.where(bad, now, good))
        seen = torch.stack([loss.detach().float(), norm])
        self._values = torch.where(bad & ~ended, seen, values)
        return (bad | ended).float()

    def read(self) -> BadSteps:
        """Wait for the device, and say what was left out."""
        if self._counts is None or self._values is None:
            return BadSteps(0, 0, 0, 0.0, 0.0)
        in_a_row, total, latest = self._counts.tolist()
        loss, norm = self._values.tolist()
        return BadSteps(in_a_row, total, latest, loss, norm)
