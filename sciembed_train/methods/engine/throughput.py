"""What a run says of its speed and memory.

Shapes are those of the batches.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.microbatch.micro_batches import plan_micro_batches
from sciembed_train.encoder.profiling.flops import bf16_peak, training_flops


def useful_token_share(encoder: Encoder, batches: list[Any]) -> float:
    """Share of the slots that the encoder multiplies for these batches that hold a real token."""
    if encoder.unpadded:
        return 1.0
    tokens, slots = 0, 0
    for batch in batches:
        lengths = batch.rows.lengths.numpy()
        micro_batches = plan_micro_batches(lengths, encoder.max_tokens_per_forward, padded=True)
        for start, end in micro_batches.spans():
            rows = lengths[micro_batches.order[start:end]]
            tokens, slots = tokens + int(rows.sum()), slots + int(rows.max()) * len(rows)
    return tokens / slots


def bf16_share(encoder: Encoder, batch: Any, tokens_per_second: float) -> float | None:
    """Share of the device's bf16 peak that the batch's real tokens make use of at this speed.

    None where there is no such peak, or the backbone's operations are not known.

    Args:
        encoder: that is trained.
        batch: of this rank.
        tokens_per_second: of this rank.
    """
    peak = bf16_peak(encoder.device)
    if peak is None:
        return None
    operations = training_flops(encoder, batch.rows.lengths, len(getattr(batch, "labels", ())))
    if operations is None:
        return None
    return tokens_per_second * operations / batch.rows.tokens / peak


def peak_memory_gb(device: torch.device) -> float:
    """Most memory held so far: of this device, or resident in this process on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Meter:
    """Wall time and tokens since the last report; validation does not count."""

    def __init__(self) -> None:
        self.tokens = 0
        self._since: float | None = None
        self._waited = 0.0
        self._paused = 0.0

    def start(self, waited: float) -> None:
        """Begin, unless it has begun."""
        if self._since is None:
            self._since, self._waited = time.perf_counter(), waited

    def stop(self, waited: float) -> tuple[float, float]:
        """Seconds since the last report, and the share of them spent waiting for data."""
        now = time.perf_counter()
        assert self._since is not None
        seconds = max(now - self._since, 1e-9)
        share = (waited - self._waited) / seconds
        self._since, self._waited, self.tokens = now, waited, 0
        return seconds, min(1.0, share)

    def pause(self) -> None:
        """What comes does not count."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """It counts again."""
        if self._since is not None:
            self._since += time.perf_counter() - self._paused
