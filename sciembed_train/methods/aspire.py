"""SPECTER-CoCite: a paper is nearer to one it is cited together with than to another pair's.

Mysore, Cohan and Hope (2022), "Multi-Vector Models with Textual Guidance for Fine-Grained
Scientific Document Similarity" (Aspire), section 3.2.

Shapes: ``B`` pairs of this rank, ``N`` pairs of all ranks, ``D`` width.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train import distributed
from sciembed_train.batch import PairBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.pooling.base import pooling_class
from sciembed_train.errors import UserError
from sciembed_train.losses.triplet import euclidean_margin
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_triplets import (
    NESTED_SCORE,
    VALIDATION_SCORES,
    HeldOutTriplets,
)
from sciembed_train.methods.in_batch_negatives import (
    against_candidates,
    check_negatives,
    outside_pairs,
    own_pairs,
)
from sciembed_train.methods.loss import Loss, check_margin, check_temperature, full_precision
from sciembed_train.optim_settings import OptimSettings


class Cocite(Method):
    """Triplet margin loss on Euclidean distance, negatives from the same step over all ranks.

    The positives of all ranks are gathered with their gradient, so any number of ranks makes the
    same step; so does any number of micro-batches.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        margin: how much farther the other pair's paper must be, in the unit of the distance.
        negatives: ``one`` is the paper that ``data.sampling`` gave each pair, as published.
            ``all`` compares with the positive of every other pair of the step that is allowed:
            the mean of the triplet losses, or with ``temperature`` the cross-entropy of
            ``-distance / temperature``. ``local`` is ``all`` of this rank's pairs alone, for ranks
            that are slow to exchange vectors; the step then depends on the number of ranks.
        temperature: null for the margin.
        mix_lr: what multiplies the learning rate of the layer mix's weights. At 1, as published,
            they hardly leave where they start: Adam moves each by about a learning rate a step.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is split by
            whole pairs and encoded twice (`methods.engine.gradient_cache`). See `Method`.
        matryoshka_dims: also train the first so many numbers of each vector as a vector of its
            own: the loss is the weighted sum of the losses at these widths (`methods.nested`), the
            full one among them only if it is named. None for the full width alone. Validation
            reports ``val/map_d`` of each width d.
        matryoshka_weights: of each of ``matryoshka_dims``; none for 1 each.

    Raises:
        UserError: the margin is negative, the temperature not above 0, or given for ``one``, or
            the mix has a learning rate of its own and the encoder no mix.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES
    nested_score: ClassVar[str | None] = NESTED_SCORE
    batch_type: ClassVar[type] = PairBatch
    examples: ClassVar[str] = "co-cited pairs"
    example_recipe: ClassVar[str] = "configs/aspire_cocite_compsci_spec.yaml"

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        margin: float = 1.0,
        negatives: Literal["one", "all", "local"] = "one",
        temperature: float | None = None,
        mix_lr: float = 1.0,
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        matryoshka_dims: tuple[int, ...] = (),
        matryoshka_weights: tuple[float, ...] = (),
    ) -> None:
        check_margin(margin)
        check_temperature(temperature, negatives, compared="all or local")
        if mix_lr <= 0:
            raise UserError(f"mix_lr must be above 0; got {mix_lr}.")
        if mix_lr != 1 and not pooling_class(encoder.pooling).learned:
            raise UserError(
                f"mix_lr is {mix_lr}, and encoder.pooling is {encoder.pooling}, without weights."
            )
        super().__init__(
            encoder,
            optim,
            max_tokens_per_backward,
            matryoshka_dims=matryoshka_dims,
            matryoshka_weights=matryoshka_weights,
        )
        self.margin, self.negatives, self.temperature = margin, negatives, temperature
        self.mix_lr = mix_lr
        self.triplet_loss = partial(euclidean_margin, margin=margin)
        self.held_out = HeldOutTriplets(self.triplet_loss, self.nested)

    @property
    def depends_on_processes(self) -> str | None:
        """Local negatives do."""
        if self.negatives != "local":
            return None
        return "model.init_args.negatives=local compares a pair with those of its process alone"

    @property
    def lr_factors(self) -> dict[nn.Parameter, float]:
        """The layer mix's."""
        return dict.fromkeys(super().lr_factors, self.mix_lr)

    def check(self, batch: Any) -> None:
        """Raise UserError unless the batches hold pairs of which one at least has a negative."""
        super().check(batch)
        check_negatives(batch)

    def gradients(self, batch: PairBatch, micro_batches: list[PairBatch]) -> dict[str, Tensor]:
        """Gradients of the mean over the pairs of all ranks."""
        cache = GradientCache(self.passes, self._encode, partial(self._in_batch_loss, batch=batch))
        return cache.gradients(batch, micro_batches)

    def _encode(self, micro_batch: PairBatch) -> MicroBatchEmbeddings:
        vectors = full_precision(self.encoder(micro_batch.rows))
        columns = vectors[micro_batch.anchor], vectors[micro_batch.positive]
        return MicroBatchEmbeddings(columns, vectors.new_zeros(()), {})

    def _in_batch_loss(
        self, anchors: Float[Tensor, "B D"], positives: Float[Tensor, "B D"], batch: PairBatch
    ) -> Loss:
        """Mean over this rank's pairs, compared with the positives of all ranks."""
        others = positives if self.negatives == "local" else distributed.gather(positives)
        return self.nested(partial(self._compare, batch=batch), anchors, positives, others)

    def _compare(
        self,
        anchors: Float[Tensor, "B D"],
        positives: Float[Tensor, "B D"],
        others: Float[Tensor, "N D"],
        batch: PairBatch,
    ) -> Loss:
        losses = (
            self._one_negative(anchors, positives, others, batch)
            if self.negatives == "one"
            else self._all_negatives(anchors, positives, others, batch)
        )
        void = (batch.negative < 0) | (batch.negative == own_pairs(batch))
        shares = {"active_share": losses > 0, "void_share": void}
        parts = {name: share.to(losses.dtype).mean() for name, share in shares.items()}
        return Loss(losses.mean(), parts)

    def _one_negative(
        self, anchors: Tensor, positives: Tensor, others: Float[Tensor, "N D"], batch: PairBatch
    ) -> Float[Tensor, " B"]:
        """Loss of each triplet; 0 if there is no negative."""
        negatives = others[batch.negative.clamp(min=0)]
        return self.triplet_loss(anchors, positives, negatives) * (batch.negative >= 0)

    def _all_negatives(
        self, anchors: Tensor, positives: Tensor, others: Float[Tensor, "N D"], batch: PairBatch
    ) -> Float[Tensor, " B"]:
        """Loss of each pair against every allowed positive of the step or of this rank."""
        first = distributed.rank() * len(batch) if self.negatives == "local" else 0
        allowed = outside_pairs(batch.excluded, len(others), first)
        return against_candidates(
            anchors, positives, others, allowed, self.margin, self.temperature
        )

    def negatives_per_anchor(self, batch: PairBatch) -> float:
        """One of each pair that has one; or every pair's positive that is not excluded."""
        if self.negatives == "one":
            return (batch.negative >= 0).double().mean().item()
        local = self.negatives == "local"
        pairs = len(batch) * (1 if local else distributed.world_size())
        first = int(own_pairs(batch)[0]) if local else 0
        excluded = batch.excluded[:, 1] - first
        return pairs - int(((excluded >= 0) & (excluded < pairs)).sum()) / len(batch)

    def collapsed_loss(self, batch: PairBatch) -> float | None:
        """The margin where there is a negative, or the logarithm of the number of candidates."""
        if self.temperature is not None:
            return math.log1p(self.negatives_per_anchor(batch))
        return self.margin * self.negatives_per_anchor(batch) if self.negatives == "one" else None
