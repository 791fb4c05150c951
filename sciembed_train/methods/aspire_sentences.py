"""Multi-vector Aspire: co-cited papers are near each other, sentence by sentence.

Mysore, Cohan and Hope (2022), "Multi-Vector Models with Textual Guidance for Fine-Grained
Scientific Document Similarity" (Aspire), sections 3.3 and 3.4: tsAspire, otAspire, both together,
and the paper's baselines.

Shapes: ``B`` pairs of this rank, ``B2`` their positives and then their negatives, ``M`` sentences
of the paper of the step that has most.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import SentencePairBatch, on_device
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.losses.triplet import triplet_margin
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_sentence_pairs import (
    VALIDATION_SCORES,
    HeldOutSentences,
)
from sciembed_train.methods.in_batch_negatives import check_negatives, own_pairs
from sciembed_train.methods.loss import Loss, check_margin, full_precision
from sciembed_train.methods.sentence_objectives import (
    Objectives,
    PaddedSentences,
    objective_distances,
    pad_sentences,
    sentence_mask,
)
from sciembed_train.optim_settings import OptimSettings


class SentenceCocite(Method):
    """Triplet margin losses on distances between sets of sentences, negatives from the same step.

    The positives' sentences of all ranks are gathered with their gradient, so any number of ranks
    makes the same step; the same of any number of micro-batches.

    Args:
        encoder: backbone, length and input format; its pooling is ``sentences``.
        objectives: which distances count, and how much.
        optim: the optimiser, its schedule and clipping.
        transport: temperature and solver of optimal transport; required where it counts.
        attention_temperature: of the softmax of ``objectives.attention``, in the unit of the
            distance.
        margin: how much farther the other pair's paper must be, in the unit of the distance.
        aligned_anchor: which of the anchor's sentences ``objectives.aligned`` compares with the
            negative's aligned one: the anchor's ``own`` aligned sentence, or the one of that
            number in the ``other`` pair's alignment, as published: about any sentence.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is cut by
            whole pairs and encoded twice (`methods.engine.gradient_cache`). See `Method`.

    Raises:
        UserError: a setting is out of its range, lacks what it needs, or serves nothing.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES
    multi_vector: ClassVar[bool] = True
    batch_type: ClassVar[type] = SentencePairBatch
    examples: ClassVar[str] = "co-cited pairs with their sentences"
    example_recipe: ClassVar[str] = "configs/aspire_ot_compsci.yaml"

    def __init__(
        self,
        encoder: EncoderSettings,
        objectives: Objectives,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        transport: TransportSettings | None = None,
        attention_temperature: float = 1.0,
        margin: float = 1.0,
        aligned_anchor: Literal["own", "other"] = "own",
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
    ) -> None:
        if not gives_sentence_vectors(encoder.pooling):
            raise UserError(
                f"encoder.pooling is {encoder.pooling}, and SentenceCocite compares papers "
                "sentence by sentence; set it to sentences."
            )
        if objectives.transport and transport is None:
            raise UserError(
                "objectives.transport has a weight, and there are no settings of the transport. "
                "Give transport.temperature (5000 as published)."
            )
        if transport is not None and not objectives.transport:
            raise UserError("transport is given, and objectives.transport is 0; give one of both.")
        if not attention_temperature > 0:
            raise UserError(f"attention_temperature is {attention_temperature}; it is above 0.")
        check_margin(margin)
        super().__init__(encoder, optim, max_tokens_per_backward)
        self.objectives, self.transport = objectives, transport
        self.attention_temperature, self.margin = attention_temperature, margin
        self.aligned_anchor = aligned_anchor
        self.held_out = HeldOutSentences(self.compare)

    @property
    def similarity_metadata(self) -> dict[str, Any]:
        """Optimal transport and its settings if it was trained, else the best match."""
        if self.transport is None:
            return {"similarity": "best_match"}
        return {"similarity": "transport", "transport": self.transport.as_dict()}

    def check(self, batch: Any) -> None:
        """Raise UserError unless the batches hold what the objectives need."""
        super().check(batch)
        check_negatives(batch)
        if self.objectives.aligned and not (batch.aligned >= 0).all(1).any():
            raise UserError(
                "objectives.aligned has a weight, but no pair of the first step has aligned "
                "sentences. Set data.sampling.init_args.align to context or abstract, "
                "and aligned_by to the folder of the model that aligns them."
            )

    def gradients(
        self, batch: SentencePairBatch, micro_batches: list[SentencePairBatch]
    ) -> dict[str, Tensor]:
        """Gradients of the mean over the pairs of all ranks."""
        cache = GradientCache(self.passes, self._encode, partial(self._in_batch_loss, batch=batch))
        return cache.gradients(batch, micro_batches)

    def _encode(self, micro_batch: SentencePairBatch) -> MicroBatchEmbeddings:
        vectors = full_precision(
            self.encoder.sentence_vectors(micro_batch.rows, micro_batch.sentences)
        )
        papers = pad_sentences(vectors, micro_batch.sentences.counts, micro_batch.most).vectors
        columns = papers[micro_batch.anchor], papers[micro_batch.positive]
        return MicroBatchEmbeddings(columns, vectors.new_zeros(()), {})

    def _in_batch_loss(
        self,
        anchors: Float[Tensor, "B M D"],
        positives: Float[Tensor, "B M D"],
        batch: SentencePairBatch,
    ) -> Loss:
        """Mean over this rank's pairs, compared with the positives of all ranks."""
        others = distributed.gather(positives)
        (counts,) = on_device(anchors.device, batch.sentences.counts)
        # A pair without a negative compares the first slot, and does not count.
        negative_count = batch.negative_count.clamp(min=1)
        return self._loss(
            PaddedSentences(anchors, sentence_mask(counts[batch.anchor], batch.most)),
            PaddedSentences(positives, sentence_mask(counts[batch.positive], batch.most)),
            PaddedSentences(
                others[batch.negative.clamp(min=0)], sentence_mask(negative_count, batch.most)
            ),
            batch,
        )

    def _loss(
        self,
        anchor: PaddedSentences,
        positive: PaddedSentences,
        negative: PaddedSentences,
        batch: SentencePairBatch,
    ) -> Loss:
        """Mean over the pairs; 0 of one without a negative, or without aligned sentences."""
        known = batch.negative >= 0
        aligned = known & (batch.aligned >= 0).all(1) & (batch.negative_aligned >= 0).all(1)
        negative_aligned = batch.negative_aligned
        if self.aligned_anchor == "own":
            negative_aligned = torch.stack([batch.aligned[:, 0], negative_aligned[:, 1]], dim=1)
        both_aligned = torch.cat([batch.aligned, negative_aligned])
        losses, _ = self._objective_losses(anchor, positive, negative, both_aligned)
        counts = {name: aligned if name == "aligned" else known for name in losses}
        losses = {name: loss * counts[name] for name, loss in losses.items()}
        total = self.objectives.weighted_sum(losses)
        shares = {
            "active_share": total > 0,
            "void_share": ~known | (batch.negative == own_pairs(batch)),
            **({"unaligned_share": known & ~aligned} if self.objectives.aligned else {}),
        }
        parts = {name: share.to(total.dtype).mean() for name, share in shares.items()}
        parts |= {f"{name}_loss": loss.detach().mean() for name, loss in losses.items()}
        return Loss(total.mean(), parts)

    def compare(
        self, anchor: PaddedSentences, positive: PaddedSentences, negative: PaddedSentences
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Loss of each triplet, and the distances of its anchor to the two others when ranked.

        Nothing is aligned in validation: the best match stands in, as in the published dev loss.
        """
        losses, ranking = self._objective_losses(anchor, positive, negative, None)
        positive_distance, negative_distance = ranking.chunk(2)
        return self.objectives.weighted_sum(losses), positive_distance, negative_distance

    def _objective_losses(
        self,
        anchor: PaddedSentences,
        positive: PaddedSentences,
        negative: PaddedSentences,
        aligned: Int[Tensor, "B2 2"] | None,
    ) -> tuple[dict[str, Float[Tensor, " B"]], Float[Tensor, " B2"]]:
        """Each objective's loss of each triplet; and the distances that papers are ranked by."""
        distances, ranking = objective_distances(
            self.objectives,
            PaddedSentences.cat([anchor, anchor]),
            PaddedSentences.cat([positive, negative]),
            aligned,
            transport_settings=self.transport,
            attention_temperature=self.attention_temperature,
        )
        pairs = len(anchor.mask)
        losses = {
            name: triplet_margin(distance[:pairs], distance[pairs:], self.margin)
            for name, distance in distances.items()
        }
        return losses, ranking

    def negatives_per_anchor(self, batch: SentencePairBatch) -> float:
        """One for a pair that has a negative, else none: the mean of the batch."""
        return (batch.negative >= 0).double().mean().item()
