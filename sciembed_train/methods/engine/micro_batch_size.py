"""How many tokens a backward pass of a run may have, so that no step runs out of memory.

A micro-batch of a rank's share is as large as memory allows. What fits is estimated from two small
micro-batches (`encoder.profiling.memory`). On a CUDA device the step that takes most is then made
once before the first, its gradients thrown away, and with half the tokens where it did not fit. On
a CPU the estimate is all: a process that takes too much there is killed and cannot say why.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.encoder.profiling.memory import Footprint, footprint, free_memory
from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from sciembed_train.methods.base import Method

# Of the memory there is, what a step may take: blocks that nothing fits in, buffers of libraries
# and what other programs of a machine take are not in the estimate.
USED = {"cuda": 0.92, "cpu": 0.75}
# Least share of a padded micro-batch's slots that hold tokens: its texts are sorted by length. What
# is estimated and tried has texts of one length, and no padding.
PADDED = 0.75
# Where a step that takes too much is told of, and does not end the process.
TELLS = ("cuda",)


@dataclass(frozen=True)
class MicroBatchSize:
    """What a step may take.

    Args:
        tokens: most tokens of a micro-batch; None for no cut.
        said: in a sentence, where there is something to say.
        cuts: whether a step as large as can be is cut.
    """

    tokens: int | None
    said: str = ""
    cuts: bool = False


def choose_micro_batch_size(
    method: Method,
    batch: Any,
    length: int,
    processes_on_machine: int,
    trying: bool,
    previous_max_tokens: int | None = None,
) -> MicroBatchSize:
    """How many tokens a micro-batch may have on every rank, by the setting and the memory.

    Weights, optimiser and random state stay as they are. Every rank calls it, in the precision of
    the run.

    Args:
        method: on its device, before its first step; its ``max_tokens_per_backward`` say what is
            wanted.
        batch: a share of a step of this rank, on the host.
        length: tokens of the longest text that can come.
        processes_on_machine: processes of this machine that share its main memory.
        trying: whether to make the largest step once; only a CUDA device does.
        previous_max_tokens: most tokens of a micro-batch in the run that is continued, if it was
            cut. With ``auto`` there are no more now: another cut would draw other dropout.

    Raises:
        UserError: not even one example fits.
    """
    wanted = method.max_tokens_per_backward
    if wanted is None:
        return MicroBatchSize(None)
    whole = batch.largest(len(batch), length)
    most, device = whole.rows.tokens, method.device
    least = batch.largest(1, length).rows.tokens
    tries = trying and device.type in TELLS
    with _as_it_was(method), method.without_gradient_sync():
        found = _estimate(method, len(whole.rows), length, processes_on_machine)
        # The two small micro-batches may have been too much for one rank alone.
        known = _agreed(int(found is not None))
        if not known and not tries:
            return MicroBatchSize(
                previous_max_tokens if wanted == "auto" else int(wanted),
                cuts=bool(previous_max_tokens),
            )
        limit = most if wanted == "auto" else max(int(wanted), least)
        if found is not None and wanted == "auto":
            limit = found[0]
        if previous_max_tokens is not None and wanted == "auto":
            limit = min(limit, max(previous_max_tokens, least))
        elif found is not None and not tries:
            limit = min(limit, found[0])
        limit = _agreed(max(limit, least if tries else 0))
        if limit < least:
            assert found is not None
            raise _too_small(least, length, found[1].bytes(least), device)
        if tries:
            limit = _tried(method, whole, min(limit, most), least)
    if (
        limit < most
        and limit != previous_max_tokens
        and wanted == "auto"
        and not method.encoder.unpadded
    ):
        limit = max(least, int(limit * PADDED))
    if wanted != "auto" and limit >= min(int(wanted), most):
        return MicroBatchSize(int(wanted), cuts=wanted < most)
    if limit >= most:
        return MicroBatchSize(limit)
    if limit == previous_max_tokens and wanted == "auto":
        said = f"a share of more than {limit:,} tokens is cut, as in the run that is continued"
        return MicroBatchSize(limit, said, cuts=True)
    need = "" if found is None else f" ({found[1].bytes(most) / 1e9:.1f} GB)"
    said = (
        f"a step may have {most:,} tokens a process{need}, more than memory holds: a share of more "
        f"than {limit:,} is split, with the same gradient "
        "(model.init_args.max_tokens_per_backward). Examples that meet others are then encoded "
        "twice, in up to 1.4 times the time"
    )
    return MicroBatchSize(limit, said, cuts=True)


@contextmanager
def _as_it_was(method: Method) -> Iterator[None]:
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
    """Most tokens by the memory there is, and what a pass takes; None where that is unknown."""
    room = free_memory(method.device, processes_on_machine)
    if room is None:
        return None
    try:
        taken = footprint(method.encoder, length)
    except torch.OutOfMemoryError:  # trying will tell
        return None
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    # Gradients, and the optimiser's two moments where it has made no step.
    kept = trained * (1 if method.optimizer_ready else 3)
    # Vectors of the share, of all ranks, and the gradients of both.
    sentences = 8 if method.multi_vector else 1
    kept += texts * sentences * method.encoder.dim * 4 * (4 + 2 * distributed.world_size())
    used = int(room * USED.get(method.device.type, 0.75))
    return taken.tokens(used - kept), taken


def _tried(method: Method, whole: Any, tokens: int, least: int) -> int:
    """So many tokens, or half, and half again, until a whole step has fitted on every rank."""
    while True:
        fits = _dry_run_fits(method, whole, tokens)
        if _agreed(int(fits)):
            return tokens
        if tokens <= least:
            raise _too_small(least, int(whole.rows.lengths[0]), None, method.device)
        tokens = max(least, tokens // 2)


def _dry_run_fits(method: Method, whole: Any, tokens: int) -> bool:
    """Whether a step of this batch fits; nothing of it remains."""
    trained = [p for p in method.parameters() if p.requires_grad]
    kept: list[Tensor] = []
    fits = True
    try:
        if not method.optimizer_ready:  # what it will keep
            kept += [torch.empty_like(p) for p in trained * 2]
        with distributed.dry_run():
            method.gradients(*method.split_micro_batches(whole, tokens))
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


def _agreed(number: int) -> int:
    """The least of all ranks."""
    return -distributed.largest_over_ranks(-number)


def _too_small(tokens: int, length: int, bytes_: int | None, device: torch.device) -> UserError:
    need = "" if bytes_ is None else f" (about {bytes_ / 1e9:.1f} GB beside the weights)"
    return UserError(
        f"Not even one example fits into the memory of this {device.type} device: {tokens:,} tokens"
        f"{need}, texts of up to {length}. Set model.init_args.encoder.gradient_checkpointing to "
        "true, lower model.init_args.encoder.max_length, or take a machine with more memory."
    )
