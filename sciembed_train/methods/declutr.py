"""DeCLUTR: spans of one document are near each other, and masked language modelling.

Giorgi, Nitski, Wang and Bader (2021), "DeCLUTR: Deep Contrastive Learning for Unsupervised
Textual Representations".

Shapes: ``A`` anchors of this rank, ``N`` anchors of all ranks, ``P`` positives of an anchor, ``K``
masked tokens, ``D`` width.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import SpanBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.losses.contrastive import nt_xent
from sciembed_train.losses.masked_lm import masked_lm
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_spans import (
    NESTED_SCORE,
    VALIDATION_SCORES,
    HeldOutSpans,
    span_vectors,
)
from sciembed_train.methods.loss import Loss, full_precision
from sciembed_train.optim_settings import OptimSettings


class Declutr(Method):
    """Symmetric NT-Xent over anchors and their averaged positives, plus MLM on the anchors.

    ``contrastive_weight * NT-Xent + mlm_weight * MLM`` (section 3.2 of the paper, both weights 1).
    NT-Xent runs over the anchors and averaged positives of all ranks; MLM is the mean
    cross-entropy over the masked tokens of all ranks. The step is the same on any number of
    ranks and in any number of micro-batches.

    Args:
        encoder: backbone, pooling (``mean``, as published), length and input format.
        optim: AdamW, its schedule and clipping.
        temperature: what cosines are divided by.
        contrastive_weight: of NT-Xent; 0 for masked language modelling alone.
        mlm_weight: of MLM; 0 for the contrastive part alone (with ``mlm_probability: 0`` in
            ``data.sampling``, so that no token is masked).
        reproduce: scale the contrastive gradient as the published models had it: their gather
            passed gradients to local rows alone, so that DDP's mean made it ``1 / ranks`` of what
            the weights say (issues 212 and 222 of the original repository). The result then
            depends on the number of ranks.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is split by
            whole documents and encoded twice (`methods.engine.gradient_cache`). See `Method`.
        matryoshka_dims: also train the first so many numbers of each vector as a vector of its
            own: the loss is the weighted sum of the losses at these widths (`methods.nested`), the
            full one among them only if it is named. None for the full width alone. Validation
            reports ``val/partner_accuracy_d`` of each width d.
        matryoshka_weights: of each of ``matryoshka_dims``; none for 1 each.

    Raises:
        ValueError: the temperature is not above 0, a weight is negative, both are 0, or
            ``matryoshka_dims`` are given without a contrastive loss.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES
    nested_score: ClassVar[str | None] = NESTED_SCORE
    similarity: ClassVar[Literal["euclidean", "cosine"]] = "cosine"
    batch_type: ClassVar[type] = SpanBatch
    examples: ClassVar[str] = "spans of documents"
    example_recipe: ClassVar[str] = "configs/declutr_base.yaml"

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        temperature: float = 0.05,
        contrastive_weight: float = 1.0,
        mlm_weight: float = 1.0,
        reproduce: bool = False,
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        matryoshka_dims: tuple[int, ...] = (),
        matryoshka_weights: tuple[float, ...] = (),
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; got {temperature}.")
        for name, value in (
            ("contrastive_weight", contrastive_weight),
            ("mlm_weight", mlm_weight),
        ):
            if value < 0:
                raise ValueError(f"{name} must be 0 or more; got {value}.")
        if not contrastive_weight and not mlm_weight:
            raise ValueError(
                "contrastive_weight and mlm_weight are both 0: there is nothing to learn."
            )
        if matryoshka_dims and not contrastive_weight:
            raise ValueError(
                "matryoshka_dims nests the contrastive loss, and contrastive_weight is 0: give one "
                "of both."
            )
        super().__init__(
            encoder,
            optim,
            max_tokens_per_backward,
            masked_lm=mlm_weight > 0,
            matryoshka_dims=matryoshka_dims,
            matryoshka_weights=matryoshka_weights,
        )
        self.temperature = temperature
        self.contrastive_weight, self.mlm_weight = contrastive_weight, mlm_weight
        self.reproduce = reproduce
        self.held_out = HeldOutSpans(temperature, contrastive_weight, mlm_weight, self.nested)

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """Those of the parts that have a weight."""
        without = {"val/mlm_loss"} if not self.mlm_weight else set[str]()
        if not self.contrastive_weight:
            without |= {"val/contrastive_loss", "val/partner_accuracy"}
        return tuple(name for name in self.validation_scores if name not in without)

    @property
    def depends_on_processes(self) -> str | None:
        """The published scale of the contrastive gradient does."""
        if not self.reproduce or not self.contrastive_weight:
            return None
        return (
            "model.init_args.reproduce divides the contrastive gradient by the number of processes"
        )

    def check(self, batch: Any) -> None:
        """Raise UserError unless the batches hold spans, and what the weights need."""
        super().check(batch)
        sampling, positives = "data.sampling.init_args", batch.positive.shape[1]
        if self.contrastive_weight and not positives:
            raise UserError(
                f"{sampling}.num_positives is 0, and model.init_args.contrastive_weight is "
                f"{self.contrastive_weight}: an anchor needs a positive. Give 1 or more, or "
                "contrastive_weight 0."
            )
        if not self.contrastive_weight and positives:
            raise UserError(
                "model.init_args.contrastive_weight is 0, but "
                f"{sampling}.num_positives={positives} spans of each anchor "
                "would still be encoded. Set it to 0 as well."
            )
        if self.mlm_weight and not len(batch.masked):
            raise UserError(
                f"{sampling}.mlm_probability masks no token of the first documents, and "
                f"model.init_args.mlm_weight is {self.mlm_weight}: there is nothing to predict. "
                "Give a probability such as 0.15, or mlm_weight 0."
            )
        if not self.mlm_weight and len(batch.masked):
            raise UserError(
                f"model.init_args.mlm_weight is 0, but {sampling}.mlm_probability still masks "
                "tokens of the anchors. Set it to 0 as well."
            )

    def gradients(self, batch: SpanBatch, micro_batches: list[SpanBatch]) -> dict[str, Tensor]:
        """Gradients of both losses, scaled so that the mean over ranks is the global gradient."""
        # Ranks have different numbers of masked tokens; a mean of the ranks' own means would
        # weigh a token by the rank it is on.
        own = torch.full((1,), len(batch.labels), device=batch.labels.device)
        count = distributed.sum_over_ranks(own).clamp(min=1)

        encode = partial(self._encode, count=count)
        in_batch_loss = self._in_batch_loss if self.contrastive_weight else None
        cache = GradientCache(self.passes, encode, in_batch_loss)
        return cache.gradients(batch, micro_batches)

    def _encode(self, micro_batch: SpanBatch, count: Int[Tensor, " 1"]) -> MicroBatchEmbeddings:
        """Unit vectors of the spans, and the micro-batch's part of the mean over ``count``
        tokens."""
        parts: dict[str, Tensor] = {}
        if self.mlm_weight:
            vectors, states = self.encoder.with_token_states(micro_batch.rows, micro_batch.masked)
            total = masked_lm(self.encoder.token_logits(states), micro_batch.labels)
            loss = (total * distributed.world_size() / count).squeeze(0)
            parts["mlm_loss"] = loss.detach()
            local = self.mlm_weight * loss
        else:
            vectors = self.encoder(micro_batch.rows)
            local = torch.zeros((), dtype=full_precision(vectors).dtype, device=vectors.device)
        spans = span_vectors(vectors, micro_batch) if self.contrastive_weight else ()
        return MicroBatchEmbeddings(spans, local, parts)

    def _in_batch_loss(
        self, anchors: Float[Tensor, "A D"], positives: Float[Tensor, "A D"]
    ) -> Loss:
        """Mean NT-Xent of this rank's 2A rows against the 2N rows of all ranks (eq. 2 and 3)."""
        every = distributed.gather(anchors), distributed.gather(positives)
        return self.nested(self._compare, anchors, positives, *every)

    def _compare(
        self,
        anchors: Float[Tensor, "A D"],
        positives: Float[Tensor, "A D"],
        every_anchor: Float[Tensor, "N D"],
        every_positive: Float[Tensor, "N D"],
    ) -> Loss:
        loss = nt_xent(
            anchors,
            positives,
            self.temperature,
            anchors=every_anchor,
            positives=every_positive,
            first=distributed.rank() * len(anchors),
        ).mean()
        weight = self.contrastive_weight / (distributed.world_size() if self.reproduce else 1)
        return Loss(weight * loss, {"contrastive_loss": loss.detach()})

    def negatives_per_anchor(self, batch: SpanBatch) -> float:
        """All rows of all ranks but itself and its partner, where they are compared."""
        rows = 2 * len(batch.anchor) * distributed.world_size()
        return float(rows - 2) if self.contrastive_weight else 0.0
