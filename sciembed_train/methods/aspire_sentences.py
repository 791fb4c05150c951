"""Multi-vector Aspire: co-cited papers near to each other sentence by sentence.

Mysore, Cohan and Hope (2022), "Multi-Vector Models with Textual Guidance for Fine-Grained
Scientific Document Similarity" (Aspire), sections 3.3 and 3.4: tsAspire, otAspire, both together,
and what the paper compares them with.

Shapes: ``B`` pairs of this rank, ``B2`` their positives and then their negatives, ``M`` sentences
of the paper of the step that has most.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import SentencePairBatch, on_device
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.losses.transport import (
    TransportSettings,
    attention,
    best_match,
    sentence_distances,
    transport,
)
from sciembed_train.losses.triplet import triplet_margin
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_sentence_pairs import (
    VALIDATION_SCORES,
    HeldOutSentences,
    Texts,
    padded,
    sentences_there,
)
from sciembed_train.methods.heldout.heldout_triplets import own_places
from sciembed_train.methods.loss import Loss, full_precision
from sciembed_train.optim_settings import OptimSettings


@dataclass(frozen=True)
class Objectives:
    """What the loss adds up: the triplet loss on each distance, times its weight.

    Args:
        transport: optimal transport between all sentences (otAspire).
        aligned: the distance of the two sentences that ``data.sampling`` says are alike (tsAspire;
            absAspire with its other alignment).
        best_match: the smallest distance of two sentences (maxAspire).
        attention: the mean distance weighted by a softmax (attAspire).

    Raises:
        UserError: a weight is negative, or all are 0.
    """

    transport: float = 0.0
    aligned: float = 0.0
    best_match: float = 0.0
    attention: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        for name, weight in weights.items():
            if not weight >= 0:
                raise UserError(f"objectives.{name} is {weight}; a weight is 0 or more.")
        if not any(weights.values()):
            raise UserError(
                f"All objectives are 0, so nothing is trained: give one of {', '.join(weights)} a "
                "weight, as the recipes configs/aspire_ot_*.yaml and aspire_ts_*.yaml do."
            )


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
        if not margin >= 0:
            raise UserError(
                f"margin is in the unit of the distance and must be 0 or more; got {margin}."
            )
        super().__init__(encoder, optim, max_tokens_per_backward)
        self.objectives, self.transport = objectives, transport
        self.attention_temperature, self.margin = attention_temperature, margin
        self.aligned_anchor = aligned_anchor
        self._held_out = HeldOutSentences(self.judged)

    @property
    def held_out(self) -> HeldOutSentences:
        """Loss of the held-out pairs, each with one random paper, and how many are told apart."""
        return self._held_out

    @property
    def similarity_metadata(self) -> dict[str, Any]:
        """By transport, with its settings, where it was trained; else by the best match."""
        if self.transport is None:
            return {"similarity": "best_match"}
        return {"similarity": "transport", "transport": self.transport.as_dict()}

    def check(self, batch: Any) -> None:
        """See that the batches hold what the objectives need.

        Raises:
            UserError: they do not.
        """
        if not isinstance(batch, SentencePairBatch):
            raise UserError(
                "SentenceCocite trains on co-cited pairs with their sentences, but data.sampling "
                f"gives {type(batch).__name__}. Give data.sampling as the recipes "
                "configs/aspire_ot_*.yaml do."
            )
        if len(batch) < 2 or not (batch.negative >= 0).any():
            raise UserError(
                f"data.batch_size={len(batch)} leaves no pair of the first step a negative: it is "
                "another pair's paper. Give a larger data.batch_size."
            )
        if self.objectives.aligned and not (batch.aligned >= 0).all(1).any():
            raise UserError(
                "objectives.aligned has a weight, but no pair of the first step says which of its "
                "sentences are alike. Set data.sampling.init_args.align to context or abstract, "
                "and aligned_by to the folder of the model that aligns them."
            )

    def gradients(
        self, batch: SentencePairBatch, micro_batches: list[SentencePairBatch]
    ) -> dict[str, Tensor]:
        """Gradients of the mean over the pairs of all ranks."""

        def in_batch_loss(anchors: Tensor, positives: Tensor) -> Loss:
            others = distributed.gather(positives)
            (counts,) = on_device(anchors.device, batch.sentences.counts)
            # Where there is no negative the first slot is compared, and does not count.
            far = batch.negative_count.clamp(min=1)
            return self._loss(
                Texts(anchors, sentences_there(counts[batch.anchor], batch.most)),
                Texts(positives, sentences_there(counts[batch.positive], batch.most)),
                Texts(others[batch.negative.clamp(min=0)], sentences_there(far, batch.most)),
                batch,
            )

        def encode(micro_batch: SentencePairBatch) -> MicroBatchEmbeddings:
            vectors = full_precision(
                self.encoder.sentence_vectors(micro_batch.rows, micro_batch.sentences)
            )
            texts = padded(vectors, micro_batch.sentences.counts, micro_batch.most).vectors
            columns = texts[micro_batch.anchor], texts[micro_batch.positive]
            return MicroBatchEmbeddings(columns, vectors.new_zeros(()), {})

        cache = GradientCache(self.passes, encode, in_batch_loss)
        means = cache.gradients(batch.step, micro_batches)
        return {name: mean * len(batch) for name, mean in means.items()}

    def _loss(
        self, anchor: Texts, positive: Texts, negative: Texts, batch: SentencePairBatch
    ) -> Loss:
        """Mean over the pairs; one without a negative counts 0, as one that nothing aligns does."""
        known = batch.negative >= 0
        aligned = known & (batch.aligned >= 0).all(1) & (batch.negative_aligned >= 0).all(1)
        of_negative = batch.negative_aligned
        if self.aligned_anchor == "own":
            of_negative = torch.stack([batch.aligned[:, 0], of_negative[:, 1]], dim=1)
        said = torch.cat([batch.aligned, of_negative])
        losses, _ = self._losses(anchor, positive, negative, said)
        counts = {name: aligned if name == "aligned" else known for name in losses}
        losses = {name: loss * counts[name] for name, loss in losses.items()}
        total = self._added(losses)
        shares = {
            "active_share": total > 0,
            "void_share": ~known | (batch.negative == own_places(batch)),
            **({"unaligned_share": known & ~aligned} if self.objectives.aligned else {}),
        }
        parts = {name: share.to(total.dtype).mean() for name, share in shares.items()}
        parts |= {f"{name}_loss": loss.detach().mean() for name, loss in losses.items()}
        return Loss(total.mean(), parts)

    def judged(
        self, anchor: Texts, positive: Texts, negative: Texts
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Loss of each triplet, and how far its two papers are from the anchor when ranked.

        Nothing is aligned here: the best match stands in, as in the published dev loss.
        """
        losses, ranking = self._losses(anchor, positive, negative, None)
        near, far = ranking.chunk(2)
        return self._added(losses), near, far

    def _losses(
        self,
        anchor: Texts,
        positive: Texts,
        negative: Texts,
        aligned: Int[Tensor, "B2 2"] | None,
    ) -> tuple[dict[str, Float[Tensor, " B"]], Float[Tensor, " B2"]]:
        """Each objective's loss of each triplet; and the distances that papers are ranked by.

        Args:
            anchor: of each triplet, as the two others.
            positive: the co-cited paper.
            negative: the other.
            aligned: sentences that are compared, of anchors and positives and then of anchors and
                negatives; None for those that match best.
        """
        a = Texts(torch.cat([anchor.vectors] * 2), torch.cat([anchor.there] * 2))
        b = Texts(
            torch.cat([positive.vectors, negative.vectors]),
            torch.cat([positive.there, negative.there]),
        )
        there = a.there, b.there
        table = sentence_distances(a.vectors, b.vectors)
        nearest = ranking = best_match(table, *there)[0]
        found: dict[str, Tensor] = {}
        if self.transport is not None:
            moved = transport(a.vectors, b.vectors, *there, self.transport)
            found["transport"], ranking = moved.value, moved.cost
        if self.objectives.aligned:
            found["aligned"] = nearest if aligned is None else _at(table, *there, aligned)
        if self.objectives.best_match:
            found["best_match"] = nearest
        if self.objectives.attention:
            found["attention"] = attention(table, *there, self.attention_temperature)
        size = len(anchor.there)
        losses = {
            name: triplet_margin(d[:size], d[size:], self.margin) for name, d in found.items()
        }
        return losses, ranking

    def _added(self, losses: dict[str, Tensor]) -> Float[Tensor, " B"]:
        """The weighted sum of the objectives' losses."""
        weights = asdict(self.objectives)
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(0)

    def negatives_per_anchor(self, batch: SentencePairBatch) -> float:
        """One of each pair that has one."""
        return (batch.negative >= 0).double().mean().item()


def _at(
    table: Float[Tensor, "B M M"],
    a_there: Bool[Tensor, "B M"],
    b_there: Bool[Tensor, "B M"],
    aligned: Int[Tensor, "B 2"],
) -> Float[Tensor, " B"]:
    """The distance of the two sentences that are aligned; of the last where one has gone."""
    last = torch.stack([a_there.sum(1), b_there.sum(1)], dim=1) - 1
    first, second = torch.minimum(aligned, last).clamp(min=0).T
    return table[torch.arange(len(table), device=table.device), first, second]
