"""The speed of a run: tokens per second, time spent waiting for data, use of the hardware."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.microbatch.micro_batches import plan_micro_batches
from sciembed_train.encoder.profiling.flops import bf16_peak, training_flops


class TimedData(Protocol):
    """Training data that measures how long training waits for it."""

    @property
    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        ...


@dataclass(frozen=True)
class Interval:
    """The time between two reports.

    Args:
        seconds: without validation.
        data_share: share of them spent waiting for data.
    """

    seconds: float
    data_share: float


class Throughput(Callback):
    """Tokens and seconds since the last report; validation does not count.

    Attributes:
        tokens: of this rank's batches since the last report.
    """

    def __init__(self, data: TimedData) -> None:
        self.data = data
        self.tokens = 0
        self._since: float | None = None
        self._waited = 0.0
        self._paused = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start at the first step."""
        if self._since is None:
            self._since, self._waited = time.perf_counter(), self.data.waited

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's tokens."""
        self.tokens += batch.rows.tokens

    def restart(self) -> Interval:
        """The time since the last report, and begin anew."""
        now, waited = time.perf_counter(), self.data.waited
        assert self._since is not None
        seconds = max(now - self._since, 1e-9)
        share = (waited - self._waited) / seconds
        self._since, self._waited, self.tokens = now, waited, 0
        return Interval(seconds, min(1.0, share))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue."""
        if self._since is not None:
            self._since += time.perf_counter() - self._paused


def useful_token_share(encoder: Encoder, text_lengths: Sequence[Tensor]) -> float:
    """Share of the slots that the encoder multiplies that hold a real token."""
    if encoder.unpadded:
        return 1.0
    tokens, slots = 0, 0
    for lengths in (part.numpy() for part in text_lengths):
        micro_batches = plan_micro_batches(lengths, encoder.max_tokens_per_forward, padded=True)
        for start, end in micro_batches.spans():
            rows = lengths[micro_batches.order[start:end]]
            tokens, slots = tokens + int(rows.sum()), slots + int(rows.max()) * len(rows)
    return tokens / slots


def bf16_share(encoder: Encoder, batch: Any, tokens_per_second: float) -> float | None:
    """Share of the device's bf16 peak that this rank's batch uses at its own speed.

    None where there is no such peak, or the backbone's operations are not known.
    """
    peak = bf16_peak(encoder.device)
    if peak is None:
        return None
    predicted = len(getattr(batch, "labels", ()))  # masked tokens of spans
    operations = training_flops(encoder, batch.rows.lengths, predicted)
    if operations is None:
        return None
    return tokens_per_second * operations / batch.rows.tokens / peak


def peak_memory_gb(device: torch.device) -> float | None:
    """Most memory held so far: of this device, or resident in this process on CPU.

    None on a system that does not count it for its processes, such as Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
