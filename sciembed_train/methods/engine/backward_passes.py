"""The passes of an optimiser step: dropout's seeds, exchange of gradients, equal counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.methods.engine import sharding


@dataclass
class BackwardPasses:
    """How a step runs its passes; the same for every loss.

    As constructed it is plain autograd in one process. `Method.on_fit_start` connects it to
    Lightning.

    Args:
        encoder: what is run.
        backward: makes one backward pass; Lightning's scales the loss for fp16.
        no_sync: a context in which gradients add up on this rank and are not exchanged.
        seed: of dropout.
    """

    encoder: Encoder
    backward: Callable[[Tensor], None] = field(default=Tensor.backward)
    no_sync: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)
    seed: int = 0

    def seed_dropout(self, step: int, micro_batch: int = 0) -> None:
        """Make dropout a function of (seed, step, rank, micro-batch) and of nothing else."""
        # The first micro-batch's seed is the step's own.
        key = f"{self.seed} {step} {distributed.rank()}{f' {micro_batch}' if micro_batch else ''}"
        digest = hashlib.sha256(key.encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def forward_count(self, micro_batches: int) -> int:
        """How often every rank runs the encoder, where this one has so many micro-batches.

        Only ranks that share sharded weights must run it equally often.
        """
        sync = self.encoder.max_forwards_over_ranks
        return micro_batches if sync is None else sync(micro_batches)

    def dummy_forwards(self, times: int, rows: TokenRows) -> None:
        """Run the encoder where other ranks have more micro-batches; no gradient changes by it."""
        for _ in range(times):
            zero = sharding.dummy_forward(self.encoder, rows)
            if torch.is_grad_enabled():
                self.backward(zero)

    def exchanging(self, last: bool) -> AbstractContextManager[None]:
        """The context of a backward pass: the step's last one exchanges gradients among ranks."""
        return nullcontext() if last else self.no_sync()
