"""One backward pass over examples that all meet each other, in pieces that fit in memory.

Gradient caching, Gao, Zhang, Han and Callan (2021), "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup": the vectors of every piece are computed without keeping a graph, the
loss gives the gradient of each vector, and each piece is encoded once more to carry it on.
A share of one piece is encoded once, and its graph kept; so is each piece where nothing meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciembed_train.methods.base import Loss, Method


@dataclass(frozen=True)
class Represented:
    """What a piece brings to the meeting.

    Args:
        vectors: columns of vectors of its examples, each ``[B, D]`` or ``[B, sentences, D]``;
            columns may have unlike numbers of rows.
        local: the part of the loss that depends on the piece alone; pieces add up.
        parts: more sums over the piece, without gradient, for the log.
    """

    vectors: tuple[Tensor, ...]
    local: Tensor
    parts: dict[str, Tensor]


def meeting_gradients(
    method: Method,
    step: int,
    pieces: Sequence[Any],
    represent: Callable[[Any], Represented],
    meet: Callable[..., Loss] | None,
    meets: Callable[[Any], bool] = lambda piece: True,
) -> dict[str, Tensor]:
    """Gradients of ``meet(all vectors) + sum of the pieces' local losses``.

    Ranks may have different numbers of pieces, so ``represent`` must make no collective. The
    collectives of ``meet`` come before those of the gradients' exchange on every rank.

    Args:
        method: whose backward pass it is.
        step: the optimiser step, for dropout: a piece that is encoded twice has the same masks.
        pieces: the batch in pieces of whole examples.
        represent: encodes a piece.
        meet: the loss of all vectors, column by column in the order of the pieces; None where
            only the local parts count.
        meets: whether a piece brings vectors to the meeting; one that brings none is encoded once.
            At least one does.

    Returns:
        ``loss`` and all parts: means, not multiplied by the number of examples.
    """
    runs = method.runs(len(pieces))
    whole = runs == 1
    brought: dict[int, Represented] = {}
    value: dict[str, Tensor] = {}
    gradients: dict[int, tuple[Tensor, ...]] = {}
    if meet is not None:
        meeting = sum(map(meets, pieces))
        extra = method.runs(meeting) - meeting
        with torch.set_grad_enabled(whole):
            for number, piece in enumerate(pieces):
                if meets(piece):
                    method.seed_dropout(step, number)
                    brought[number] = represent(piece)
            method.run_along(extra, pieces[0])
        if not whole:
            # Weights that autocast has lowered without a graph must not serve the pass with one.
            # torch 2.13 keeps none of those; whether 2.11 does was not tried.
            torch.clear_autocast_cache()
        columns = list(zip(*(b.vectors for b in brought.values()), strict=True))
        leaves = [torch.cat(column).detach().requires_grad_() for column in columns]
        loss = meet(*leaves)
        # Taken here and not through the scaler: fp16's scale enters once, in the last pass.
        shares = [
            gradient.split([len(vectors) for vectors in column])
            for gradient, column in zip(
                torch.autograd.grad(loss.value, leaves), columns, strict=True
            )
        ]
        gradients = dict(zip(brought, zip(*shares, strict=True), strict=True))
        value = {"loss": loss.value.detach(), **loss.parts}
    method.run_along(runs - len(pieces), pieces[0])
    for number, piece in enumerate(pieces):
        with method.exchanging(number == len(pieces) - 1):
            if brought and whole:
                here = brought[0]
            else:
                method.seed_dropout(step, number)
                here = represent(piece)
            carried = here.local
            if number in gradients:
                for vectors, gradient in zip(here.vectors, gradients[number], strict=True):
                    carried = carried + (vectors * gradient).sum()
            method.manual_backward(carried)
        for name, part in {"loss": here.local.detach(), **here.parts}.items():
            value[name] = value[name] + part if name in value else part
    return value
