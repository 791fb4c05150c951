"""Losses that compare all examples of a step, in micro-batches that fit in memory.

Gradient caching: Gao, Zhang, Han and Callan (2021), "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup". The loss needs the vectors of all micro-batches at once, the graph of
the encoder does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciembed_train.methods.engine.backward_passes import BackwardPasses
from sciembed_train.methods.loss import Loss


@dataclass(frozen=True)
class MicroBatchEmbeddings:
    """What encoding a micro-batch gives.

    Args:
        vectors: columns of vectors that the loss compares, each ``[B, D]`` or
            ``[B, sentences, D]``; columns may have different numbers of rows.
        local_loss: the part of the loss that depends on the micro-batch alone; micro-batches add
            up.
        parts: more sums over the micro-batch, without gradient, for the log.
    """

    vectors: tuple[Tensor, ...]
    local_loss: Tensor
    parts: dict[str, Tensor]


Encode = Callable[[Any], MicroBatchEmbeddings]
CachedGradients = dict[int, tuple[Tensor, ...]]  # of each column, by number of the micro-batch


@dataclass(frozen=True)
class GradientCache:
    """Gradients of ``loss(all vectors) + sum of the micro-batches' local losses``.

    1. *encode*: the vectors of every micro-batch that is compared, without a graph.
    2. *loss*: of all vectors together, and its gradient with respect to each vector.
    3. *backward*: every micro-batch is encoded again, with the same dropout, and carries the
       gradients of its vectors into the weights, with those of its local loss.

    A share of one micro-batch is encoded once, and its graph kept. So is each micro-batch that is
    not compared.

    Ranks may have different numbers of micro-batches, so ``encode`` must make no collective. The
    collectives of ``loss`` come before the exchange of gradients on every rank.

    Args:
        passes: the step's passes.
        encode: encodes a micro-batch.
        loss: of all vectors, column by column in the order of the micro-batches; None where only
            local losses count.
        compared: whether a micro-batch holds examples that ``loss`` compares. At least one does.
    """

    passes: BackwardPasses
    encode: Encode
    loss: Callable[..., Loss] | None
    compared: Callable[[Any], bool] = lambda micro_batch: True

    def gradients(self, batch: Any, micro_batches: Sequence[Any]) -> dict[str, Tensor]:
        """Make the step's backward passes.

        Returns:
            ``loss`` and all parts, each summed over the batch's examples.
        """
        step = batch.step
        forward_count = self.passes.forward_count(len(micro_batches))
        keep_graph = forward_count == 1
        embeddings: dict[int, MicroBatchEmbeddings] = {}
        gradients: CachedGradients = {}
        values: dict[str, Tensor] = {}
        if self.loss is not None:
            embeddings = self._encode_stage(step, micro_batches, keep_graph)
            gradients, values = self._loss_stage(self.loss, embeddings)
        missing = forward_count - len(micro_batches)
        self.passes.dummy_forwards(missing, micro_batches[0].rows)
        kept = embeddings if keep_graph else {}
        means = self._backward_stage(step, micro_batches, gradients, kept, values)
        return {name: mean * len(batch) for name, mean in means.items()}

    def _encode_stage(
        self, step: int, micro_batches: Sequence[Any], keep_graph: bool
    ) -> dict[int, MicroBatchEmbeddings]:
        """The embeddings of the micro-batches that are compared, by number."""
        compared = sum(map(self.compared, micro_batches))
        missing = self.passes.forward_count(compared) - compared
        embeddings: dict[int, MicroBatchEmbeddings] = {}
        with torch.set_grad_enabled(keep_graph):
            for number, micro_batch in enumerate(micro_batches):
                if self.compared(micro_batch):
                    self.passes.seed_dropout(step, number)
                    embeddings[number] = self.encode(micro_batch)
            self.passes.dummy_forwards(missing, micro_batches[0].rows)
        if not keep_graph:
            # Weights that autocast has lowered without a graph must not serve the pass with one.
            # torch 2.13 keeps none of those; whether 2.11 does was not tried.
            torch.clear_autocast_cache()
        return embeddings

    def _loss_stage(
        self, loss: Callable[..., Loss], embeddings: dict[int, MicroBatchEmbeddings]
    ) -> tuple[CachedGradients, dict[str, Tensor]]:
        """The gradient of each vector by number of its micro-batch; the loss and its parts."""
        columns = list(zip(*(part.vectors for part in embeddings.values()), strict=True))
        leaves = [torch.cat(column).detach().requires_grad_() for column in columns]
        result = loss(*leaves)
        # Taken here and not through the scaler: fp16's scale enters once, in the last stage.
        gradients = [
            gradient.split([len(vectors) for vectors in column])
            for gradient, column in zip(
                torch.autograd.grad(result.value, leaves), columns, strict=True
            )
        ]
        values = {"loss": result.value.detach(), **result.parts}
        return dict(zip(embeddings, zip(*gradients, strict=True), strict=True)), values

    def _backward_stage(
        self,
        step: int,
        micro_batches: Sequence[Any],
        gradients: CachedGradients,
        kept: dict[int, MicroBatchEmbeddings],
        values: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Carry the vectors' gradients and the local losses into the weights.

        ``kept`` are the embeddings that still have their graph, ``values`` the loss and parts so
        far.
        """
        for number, micro_batch in enumerate(micro_batches):
            with self.passes.exchanging(last=number == len(micro_batches) - 1):
                embeddings = kept.get(number)
                if embeddings is None:
                    self.passes.seed_dropout(step, number)
                    embeddings = self.encode(micro_batch)
                carried = embeddings.local_loss
                if number in gradients:
                    columns = zip(embeddings.vectors, gradients[number], strict=True)
                    for vectors, gradient in columns:
                        carried = carried + (vectors * gradient).sum()
                self.passes.backward(carried)
            local = {"loss": embeddings.local_loss.detach(), **embeddings.parts}
            for name, part in local.items():
                values[name] = values[name] + part if name in values else part
        return values
