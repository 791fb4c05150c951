"""One backward pass over examples that all meet each other, in micro-batches that fit in memory.

Gradient caching, Gao, Zhang, Han and Callan (2021), "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup": the vectors of every micro-batch are computed without keeping a graph,
the loss gives the gradient of each vector, and each micro-batch is encoded once more to carry it
on. A share of one micro-batch is encoded once, and its graph kept; so is each micro-batch where
nothing meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciembed_train.methods.base import Loss, Method


@dataclass(frozen=True)
class MicroBatchEmbeddings:
    """What a micro-batch brings to the meeting.

    Args:
        vectors: columns of vectors of its examples, each ``[B, D]`` or ``[B, sentences, D]``;
            columns may have unlike numbers of rows.
        local: the part of the loss that depends on the micro-batch alone; micro-batches add up.
        parts: more sums over the micro-batch, without gradient, for the log.
    """

    vectors: tuple[Tensor, ...]
    local: Tensor
    parts: dict[str, Tensor]


def cached_gradients(
    method: Method,
    step: int,
    micro_batches: Sequence[Any],
    represent: Callable[[Any], MicroBatchEmbeddings],
    meet: Callable[..., Loss] | None,
    meets: Callable[[Any], bool] = lambda micro_batch: True,
) -> dict[str, Tensor]:
    """Gradients of ``meet(all vectors) + sum of the micro-batches' local losses``.

    Ranks may have different numbers of micro-batches, so ``represent`` must make no collective. The
    collectives of ``meet`` come before those of the gradients' exchange on every rank.

    Args:
        method: whose backward pass it is.
        step: the optimiser step, for dropout: a micro-batch that is encoded twice has the same
            masks.
        micro_batches: the batch in micro-batches of whole examples.
        represent: encodes a micro-batch.
        meet: the loss of all vectors, column by column in the order of the micro-batches; None
            where only the local parts count.
        meets: whether a micro-batch brings vectors to the meeting; one that brings none is encoded
            once. At least one does.

    Returns:
        ``loss`` and all parts: means, not multiplied by the number of examples.
    """
    forward_count = method.forward_count(len(micro_batches))
    whole = forward_count == 1
    to_device: dict[int, MicroBatchEmbeddings] = {}
    value: dict[str, Tensor] = {}
    gradients: dict[int, tuple[Tensor, ...]] = {}
    if meet is not None:
        meeting = sum(map(meets, micro_batches))
        extra = method.forward_count(meeting) - meeting
        with torch.set_grad_enabled(whole):
            for number, micro_batch in enumerate(micro_batches):
                if meets(micro_batch):
                    method.seed_dropout(step, number)
                    to_device[number] = represent(micro_batch)
            method.dummy_forwards(extra, micro_batches[0])
        if not whole:
            # Weights that autocast has lowered without a graph must not serve the pass with one.
            # torch 2.13 keeps none of those; whether 2.11 does was not tried.
            torch.clear_autocast_cache()
        columns = list(zip(*(b.vectors for b in to_device.values()), strict=True))
        leaves = [torch.cat(column).detach().requires_grad_() for column in columns]
        loss = meet(*leaves)
        # Taken here and not through the scaler: fp16's scale enters once, in the last pass.
        shares = [
            gradient.split([len(vectors) for vectors in column])
            for gradient, column in zip(
                torch.autograd.grad(loss.value, leaves), columns, strict=True
            )
        ]
        gradients = dict(zip(to_device, zip(*shares, strict=True), strict=True))
        value = {"loss": loss.value.detach(), **loss.parts}
    method.dummy_forwards(forward_count - len(micro_batches), micro_batches[0])
    for number, micro_batch in enumerate(micro_batches):
        with method.syncing_gradients(number == len(micro_batches) - 1):
            if to_device and whole:
                here = to_device[0]
            else:
                method.seed_dropout(step, number)
                here = represent(micro_batch)
            carried = here.local
            if number in gradients:
                for vectors, gradient in zip(here.vectors, gradients[number], strict=True):
                    carried = carried + (vectors * gradient).sum()
            method.manual_backward(carried)
        for name, part in {"loss": here.local.detach(), **here.parts}.items():
            value[name] = value[name] + part if name in value else part
    return value
