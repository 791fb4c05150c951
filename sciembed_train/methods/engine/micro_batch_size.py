"""How many tokens a backward pass of a run may have, so that no step runs out of memory.

A micro-batch of a rank's share is as large as memory allows. What fits is estimated from two small
micro-batches (`encoder.profiling.memory`). On a CUDA device the largest step that can come is then
made once before the first (a dry run), its gradients thrown away, and with half the tokens if it
did not fit. On a CPU the estimate is all: a process that takes too much memory there is killed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.encoder.profiling.memory import Footprint, footprint, free_memory
from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method

# Share of the free memory that a step may take: blocks that nothing fits in, buffers of libraries
# and what other programs of a machine take are not in the estimate.
USABLE_SHARE = {"cuda": 0.92, "cpu": 0.75}
# Least share of a padded micro-batch's slots that hold tokens: its texts are sorted by length. What
# is estimated and tried has texts of one length, and no padding.
LEAST_USEFUL_SHARE = 0.75
# Devices on which a step that takes too much memory raises, and does not end the process.
RAISING = ("cuda",)


@dataclass(frozen=True)
class MicroBatchSize:
    """The limit of a micro-batch.

    Args:
        tokens: most tokens of a micro-batch; None for no limit.
        message: a sentence for the user, where memory decided; else empty.
        splits: whether the largest step that can come is split.
    """

    tokens: int | None
    message: str = ""
    splits: bool = False


def choose_micro_batch_size(
    method: Method,
    batch: Any,
    length: int,
    processes_on_machine: int,
    dry_run: bool,
    previous_max_tokens: int | None = None,
) -> MicroBatchSize:
    """How many tokens a micro-batch may have on every rank, by the setting and the memory.

    Weights, optimiser and random state stay as they are. Every rank calls it, in the precision of
    the run.

    Args:
        method: on its device, before its first step; its ``max_tokens_per_backward`` is the
            setting.
        batch: a share of a step of this rank, on the host.
        length: tokens of the longest text that can come.
        processes_on_machine: processes of this machine that share its main memory.
        dry_run: whether to make the largest step once; only a CUDA device does.
        previous_max_tokens: the limit of the run that is continued, if it split its steps. With
            ``auto`` the limit does not grow: another split would draw other dropout.

    Raises:
        UserError: not even one example fits.
    """
    setting = method.max_tokens_per_backward
    if setting is None:
        return MicroBatchSize(None)
    largest = batch.largest(len(batch), length)
    automatic = setting == "auto"
    most, device = largest.rows.tokens, method.device
    least = batch.largest(1, length).rows.tokens
    tries = dry_run and device.type in RAISING
    with _state_kept(method), method.passes.no_sync():
        estimate = _estimate(method, len(largest.rows), length, processes_on_machine)
        # The two small micro-batches may have been too much for one rank alone.
        known = _least_of_ranks(int(estimate is not None))
        if not known and not tries:
            tokens = previous_max_tokens if automatic else int(setting)
            return MicroBatchSize(tokens, splits=bool(previous_max_tokens))
        limit = most if automatic else max(int(setting), least)
        if estimate is not None and automatic:
            limit = estimate[0]
        if previous_max_tokens is not None and automatic:
            limit = min(limit, max(previous_max_tokens, least))
        elif estimate is not None and not tries:
            limit = min(limit, estimate[0])
        limit = _least_of_ranks(max(limit, least if tries else 0))
        if limit < least:
            assert estimate is not None
            raise _too_small(least, length, estimate[1].bytes(least), device)
        if tries:
            limit = _largest_that_fits(method, largest, min(limit, most), least)
    padded_anew = limit != previous_max_tokens and not method.encoder.unpadded
    if limit < most and automatic and padded_anew:
        limit = max(least, int(limit * LEAST_USEFUL_SHARE))
    if not automatic and limit >= min(int(setting), most):
        return MicroBatchSize(int(setting), splits=setting < most)
    if limit >= most:
        return MicroBatchSize(limit)
    if limit == previous_max_tokens and automatic:
        message = f"a share of more than {limit:,} tokens is split, as in the run that is continued"
        return MicroBatchSize(limit, message, splits=True)
    return MicroBatchSize(limit, _split_message(most, limit, estimate), splits=True)


def _split_message(most: int, limit: int, estimate: tuple[int, Footprint] | None) -> str:
    need = "" if estimate is None else f" ({estimate[1].bytes(most) / 1e9:.1f} GB)"
    return (
        f"a step may have {most:,} tokens a process{need}, more than memory holds: a share of more "
        f"than {limit:,} is split, with the same gradient "
        "(model.init_args.max_tokens_per_backward). Examples that are compared with others are "
        "then encoded twice, in up to 1.4 times the time"
    )


@contextmanager
def _state_kept(method: Method) -> Iterator[None]:
    """Gives torch's generators their state back, and leaves no gradient."""
    device = method.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            method.zero_grad()


def _estimate(
    method: Method, texts: int, length: int, processes_on_machine: int
) -> tuple[int, Footprint] | None:
    """Most tokens by the free memory, and what a pass takes; None where that is unknown."""
    free = free_memory(method.device, processes_on_machine)
    if free is None:
        return None
    try:
        taken = footprint(method.encoder, length)
    except torch.OutOfMemoryError:  # the dry run will show
        return None
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    # Gradients, and the optimiser's two moments if it has made no step.
    kept = trained * (1 if method.optimizer_ready else 3)
    # Vectors of the share, of all ranks, and the gradients of both.
    sentences = 8 if method.multi_vector else 1
    kept += texts * sentences * method.encoder.dim * 4 * (4 + 2 * distributed.world_size())
    usable = int(free * USABLE_SHARE.get(method.device.type, 0.75))
    return taken.tokens(usable - kept), taken


def _largest_that_fits(method: Method, largest: Any, tokens: int, least: int) -> int:
    """So many tokens, or half, and half again, until a whole step has fitted on every rank."""
    while True:
        fits = _dry_run_fits(method, largest, tokens)
        if _least_of_ranks(int(fits)):
            return tokens
        if tokens <= least:
            raise _too_small(least, int(largest.rows.lengths[0]), None, method.device)
        tokens = max(least, tokens // 2)


def _dry_run_fits(method: Method, largest: Any, tokens: int) -> bool:
    """Whether a step of this batch fits; nothing of it remains."""
    trained = [p for p in method.parameters() if p.requires_grad]
    kept: list[Tensor] = []
    fits = True
    try:
        if not method.optimizer_ready:  # its moments
            kept += [torch.empty_like(p) for p in trained * 2]
        with distributed.dry_run():
            method.gradients(*method.split_micro_batches(largest, tokens))
    except torch.OutOfMemoryError:
        fits = False
    # Only here: until now the error held on to what its functions had.
    kept.clear()
    method.zero_grad()
    gc.collect()
    if method.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(method.device)  # what is logged is the run's own
    return fits


def _least_of_ranks(number: int) -> int:
    return -distributed.largest_over_ranks(-number)


def _too_small(tokens: int, length: int, bytes_: int | None, device: torch.device) -> UserError:
    need = "" if bytes_ is None else f" (about {bytes_ / 1e9:.1f} GB beside the weights)"
    return UserError(
        f"Not even one example fits into the memory of this {device.type} device: {tokens:,} tokens"
        f"{need}, texts of up to {length}. Set model.init_args.encoder.gradient_checkpointing to "
        "true, lower model.init_args.encoder.max_length, or use a machine with more memory."
    )
