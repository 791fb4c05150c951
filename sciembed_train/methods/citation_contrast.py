"""Contrastive training on one's own papers and citations, from an encoder that is good already.

InfoNCE in cosine space over all texts of a step, both directions, without the false negatives that
the citation graph knows; and what keeps the encoder near its start: the start encoder as a guide to
further false negatives (GISTEmbed, Solatorio 2024), and a divergence from its similarities. A
teacher may be learned from, too, or alone (`methods.distillation`).

Shapes: ``B`` pairs of this rank, ``N`` of all ranks, ``H`` hard negatives of a pair, ``M``
candidates, ``R`` rows asked about, ``D`` width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train import distributed
from sciembed_train.batch import ContrastBatch, DevPairs
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.losses.contrastive import Allowed, info_nce, row_divergence
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.distillation import Distillation, Distiller, TeacherVectors
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_pairs import (
    NESTED_SCORE,
    SCORES,
    SOURCE_SCORES,
    VALIDATION_SCORES,
    HeldOutPairs,
)
from sciembed_train.methods.in_batch_negatives import outside_pairs
from sciembed_train.methods.loss import Loss, full_precision
from sciembed_train.methods.start_vectors import StartVectors
from sciembed_train.optim_settings import OptimSettings

LOWEST, HIGHEST = 0.01, 1.0  # of a learned temperature
# Vectors of this rank's anchors and positives, and of the anchors and candidates of all ranks.
Columns = tuple[Tensor, Tensor, Tensor, Tensor]


class CitationContrast(Method):
    """InfoNCE with cosine similarity against all allowed texts of the step, in both directions.

    The vectors of all ranks are gathered with their gradient, so any number of ranks makes the same
    step; so does any number of micro-batches.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        temperature: what cosines are divided by; where a learned one starts.
        learn_temperature: train its logarithm, without weight decay, between 0.01 and 1.
        temperature_lr: what multiplies the learning rate of a learned temperature, which Adam
            moves by about one learning rate a step.
        guide: ``start`` also leaves out each candidate that the start encoder finds more similar
            to a text than that text's own positive.
        guide_margin: how much less similar than the positive a candidate must be to be compared
            (a cosine).
        keep: weight of the divergence of in-batch similarities from the start encoder's
            (`losses.contrastive.row_divergence`), mean of both directions; 0 for none.
        keep_temperature: of that divergence.
        teacher: what to learn from, too: an encoder (a model folder, a run folder or a hub name)
            of any width and tokenizer, or vectors of the corpus's papers as embed writes them (an
            .npy file with the ids in .ids.txt, or a folder of shards). Whole papers count.
        distil: how much, and in which form.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is split by
            whole pairs and encoded twice (`methods.engine.gradient_cache`). See `Method`.
        matryoshka_dims: also train the first so many numbers of each vector as a vector of its
            own: the loss is the weighted sum of the losses at these widths (`methods.nested`), the
            full one among them only if it is named. None for the full width alone. Validation
            reports ``val/map_d`` of each width d.
        matryoshka_weights: of each of ``matryoshka_dims``; none for 1 each.

    Raises:
        UserError: a value is out of its range.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES
    nested_score: ClassVar[str | None] = NESTED_SCORE
    similarity: ClassVar[Literal["euclidean", "cosine"]] = "cosine"
    batch_type: ClassVar[type] = ContrastBatch
    examples: ClassVar[str] = "pairs of several sources"
    example_recipe: ClassVar[str] = "configs/own_citations.yaml"

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        temperature: float = 0.05,
        learn_temperature: bool = False,
        temperature_lr: float = 50.0,
        guide: Literal["none", "start"] = "none",
        guide_margin: float = 0.0,
        keep: float = 0.0,
        keep_temperature: float = 0.05,
        teacher: str | None = None,
        distil: Distillation = Distillation(),  # noqa: B008 - frozen
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        matryoshka_dims: tuple[int, ...] = (),
        matryoshka_weights: tuple[float, ...] = (),
    ) -> None:
        _check_settings(
            temperature=temperature,
            temperature_lr=temperature_lr,
            keep_temperature=keep_temperature,
        )
        if not 0 <= keep < math.inf:
            raise UserError(f"keep must be 0 or more; got {keep}.")
        if not -2 <= guide_margin <= 2:
            raise UserError(f"guide_margin is a cosine, from -2 to 2; got {guide_margin}.")
        if learn_temperature and not LOWEST <= temperature <= HIGHEST:
            raise UserError(
                f"A learned temperature stays between {LOWEST} and {HIGHEST}; got {temperature}."
            )
        if teacher is not None and not teacher:
            raise UserError("teacher is empty: name an encoder or vectors, or leave it out.")
        if teacher is None and distil != Distillation():
            raise UserError(
                "distil says how to learn from a teacher, and none is named. Give --model.teacher "
                "an encoder or vectors, or leave distil out."
            )
        super().__init__(
            encoder,
            optim,
            max_tokens_per_backward,
            matryoshka_dims=matryoshka_dims,
            matryoshka_weights=matryoshka_weights,
        )
        self.temperature, self.learn_temperature = temperature, learn_temperature
        self.temperature_lr = temperature_lr
        self.guide, self.guide_margin = guide, guide_margin
        self.keep, self.keep_temperature = keep, keep_temperature
        self.teacher, self.distil = teacher, distil
        self.distiller = None if teacher is None else Distiller(distil, self.encoder.dim)
        if learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        # The copy is made now: a checkpoint's weights are loaded later.
        needed = guide == "start" or keep > 0
        self.start_vectors = StartVectors(self.encoder) if needed else None
        self.held_out = HeldOutPairs(lambda: self.current_temperature, self.nested)
        self._sources: tuple[str, ...] | None = None

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """The scores of the sources that have held-out pairs."""
        if self._sources is None:
            return self.validation_scores
        own = (f"val/{source}_{name}" for source in self._sources for name in SOURCE_SCORES)
        return (*(f"val/{name}" for name in SCORES), *own)

    @property
    def current_temperature(self) -> float:
        """The current temperature, by which cosines are divided."""
        if not self.learn_temperature:
            return self.temperature
        return math.exp(self.log_temperature.item())

    @property
    def lr_factors(self) -> dict[nn.Parameter, float]:
        """The factors of every method, and of the learned temperature, which is never decayed."""
        own = {self.log_temperature: self.temperature_lr} if self.learn_temperature else {}
        return {**super().lr_factors, **own}

    @property
    def named_teacher(self) -> str | None:
        """The teacher of the settings."""
        return self.teacher

    @property
    def training_record(self) -> dict[str, Any]:
        """The teacher, and the form in which it was learned from."""
        return {} if self.distiller is None else self.distiller.record

    def learn_from(self, vectors: TeacherVectors) -> None:
        """See `Method.learn_from`."""
        assert self.distiller is not None
        self.distiller.learn_from(vectors)

    def match(self, state: Mapping[str, Tensor]) -> None:
        """Make the map to the width of the teacher that a checkpoint was trained with."""
        weight = state.get("distiller.map.weight")
        if self.distiller is None or self.distiller.map is not None or weight is None:
            return
        if weight.dim() == 2:
            self.distiller.make_map(len(weight))

    def settings(self) -> dict[str, Any]:
        """See `Method.settings`; the teacher by what its vectors depend on."""
        teacher = None if self.distiller is None else self.distiller.identity
        return {**super().settings(), "teacher": teacher}

    def prepare(self, dev: DevPairs) -> None:
        """Note which sources have held-out pairs."""
        self._sources = tuple(source.name for source in dev.sources)

    def check(self, batch: Any) -> None:
        """Raise UserError unless the batches hold pairs, one at least of them with a negative.

        Raises:
            UserError: they do not.
        """
        super().check(batch)
        if self.negatives_per_anchor(batch) <= 0:
            raise UserError(
                f"data.batch_size={len(batch)} leaves no pair of the first step a negative. Give a "
                "larger data.batch_size."
            )

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One optimiser step; a learned temperature is put back into its range."""
        result = super().training_step(batch, batch_idx)
        if self.learn_temperature:
            with torch.no_grad():
                self.log_temperature.clamp_(math.log(LOWEST), math.log(HIGHEST))
        return result

    def gradients(
        self, batch: ContrastBatch, micro_batches: list[ContrastBatch]
    ) -> dict[str, Tensor]:
        """Gradients of the mean over the pairs of all ranks."""
        encode = partial(self._encode, pairs=len(batch))
        cache = GradientCache(self.passes, encode, partial(self._in_batch_loss, batch=batch))
        return cache.gradients(batch, micro_batches)

    def _encode(self, micro_batch: ContrastBatch, pairs: int) -> MicroBatchEmbeddings:
        """The vectors of a micro-batch; ``pairs`` is this rank's number of pairs in the step."""
        vectors = unit(full_precision(self.encoder(micro_batch.rows)))
        columns = [vectors[micro_batch.anchor], vectors[micro_batch.positive]]
        columns += vectors[micro_batch.hard].unbind(1)
        if self.learn_temperature:
            # A column too, so that its gradient goes the way of the vectors'.
            columns.append(self.log_temperature.to(vectors).expand(len(micro_batch), 1))
        if self.distiller is None or self.distil.form != "cosine":
            return MicroBatchEmbeddings(tuple(columns), vectors.new_zeros(()), {})
        # Compared with nothing else of the step: micro-batches add up to the mean over its pairs.
        distance = self.distiller.distances(vectors, micro_batch).sum() / pairs
        parts = {"distil_loss": distance.detach()}
        return MicroBatchEmbeddings(tuple(columns), self.distil.weight * distance, parts)

    def _in_batch_loss(
        self,
        anchor: Float[Tensor, "B D"],
        positive: Float[Tensor, "B D"],
        *columns: Tensor,
        batch: ContrastBatch,
    ) -> Loss:
        """Mean over this rank's pairs, compared with the texts of all ranks."""
        hard = columns[: batch.hard.shape[1]]
        temperature: float | Tensor = self.temperature
        if self.learn_temperature:
            temperature = columns[-1].mean().exp()
        first = distributed.rank() * len(batch)
        anchors, positives = distributed.gather(anchor), distributed.gather(positive)
        candidates = torch.cat([positives, *self._hard_candidates(hard, batch)])
        allowed = outside_pairs(batch.excluded, len(candidates))
        back = outside_pairs(batch.excluded_back, len(anchors))
        start = None
        if self.start_vectors is not None:
            start = self._start_columns(batch, anchor)
        if start is not None and self.guide == "start":
            allowed = self._guided(allowed, start[0], start[3], first)
            back = self._guided(back, start[1], start[2], first)
        contrast = partial(
            info_nce, temperature=temperature, first=first, allowed=allowed, allowed_back=back
        )
        teacher = None
        if self.distiller is not None and self.distil.form == "ranking":
            teacher = self._columns(batch, self.distiller.vectors(batch, anchor))
        compare = partial(self._compare, contrast=contrast, start=start, teacher=teacher)
        loss = self.nested(compare, anchor, positive, anchors, candidates)
        compared = len(batch) * len(candidates)
        parts = {"masked_share": loss.value.new_tensor(len(batch.excluded) / compared)}
        if self.learn_temperature:
            parts["temperature"] = torch.as_tensor(temperature).detach()
        return Loss(loss.value, {**loss.parts, **parts})

    def _compare(
        self,
        anchor: Float[Tensor, "B D"],
        positive: Float[Tensor, "B D"],
        anchors: Float[Tensor, "N D"],
        candidates: Float[Tensor, "M D"],
        contrast: Callable[..., Tensor],
        start: Columns | None,
        teacher: Columns | None,
    ) -> Loss:
        """InfoNCE, and the divergences from the start encoder's and the teacher's similarities."""
        loss = contrast(anchor, positive, anchors=anchors, positives=candidates).mean()
        parts = {"contrast_loss": loss.detach()}
        if self.distiller is not None:
            loss = self.distil.contrast * loss
        if start is not None and self.keep:
            positives = candidates[: len(anchors)]
            divergence = self._divergence(anchor, positive, anchors, positives, start)
            parts["keep_loss"] = divergence.detach()
            loss = loss + self.keep * divergence
        if teacher is not None:
            assert self.distiller is not None
            divergence = self.distiller.divergence(anchor, positive, anchors, candidates, teacher)
            parts["distil_loss"] = divergence.detach()
            loss = loss + self.distil.weight * divergence
        return Loss(loss, parts)

    def _hard_candidates(self, hard: tuple[Tensor, ...], batch: ContrastBatch) -> list[Tensor]:
        """The existing hard negatives of all ranks, in the order of their pairs."""
        if not hard:
            return []
        columns = torch.stack([distributed.gather(column) for column in hard], dim=1)
        return [columns.flatten(0, 1)[batch.hard_kept]]

    @torch.no_grad()
    def _start_columns(self, batch: ContrastBatch, like: Tensor) -> Columns:
        """The start encoder's vectors."""
        assert self.start_vectors is not None
        return self._columns(batch, self.start_vectors(batch.rows, batch.texts, like))

    @torch.no_grad()
    def _columns(self, batch: ContrastBatch, vectors: Float[Tensor, "U D"]) -> Columns:
        """The vectors of a batch's texts as the columns of its pairs."""
        anchor, positive = vectors[batch.anchor], vectors[batch.positive]
        hard = vectors[batch.hard].unbind(1)
        anchors, positives = distributed.gather(anchor), distributed.gather(positive)
        candidates = torch.cat([positives, *self._hard_candidates(hard, batch)])
        return anchor, positive, anchors, candidates

    def _guided(self, allowed: Allowed, queries: Tensor, candidates: Tensor, first: int) -> Allowed:
        """The allowed candidates that the start encoder finds no more similar than the positive."""

        def guided(rows: slice) -> Tensor:
            own = torch.arange(rows.start + first, rows.stop + first, device=queries.device)
            with torch.autocast(queries.device.type, enabled=False):
                similarities = queries[rows] @ candidates.T
            positive = similarities.gather(1, own[:, None])
            table = allowed(rows) & (similarities <= positive - self.guide_margin)
            return table.scatter(1, own[:, None], True)

        return guided

    def _divergence(
        self,
        anchor: Tensor,
        positive: Tensor,
        anchors: Tensor,
        positives: Tensor,
        start: Columns,
    ) -> Float[Tensor, ""]:
        """Mean divergence from the start encoder's similarities, of both directions."""
        start_anchor, start_positive, start_anchors, start_candidates = start
        there = row_divergence(
            anchor,
            positives,
            start_anchor,
            start_candidates[: len(positives)],
            self.keep_temperature,
        )
        back = row_divergence(
            positive, anchors, start_positive, start_anchors, self.keep_temperature
        )
        return (there.mean() + back.mean()) / 2

    def negatives_per_anchor(self, batch: ContrastBatch) -> float:
        """The positives and hard negatives of the step but its own and those left out."""
        pairs = len(batch) * distributed.world_size()
        return pairs - 1 + len(batch.hard_kept) - len(batch.excluded) / len(batch)

    def collapsed_loss(self, batch: ContrastBatch) -> float | None:
        """The logarithm of the number of candidates, where both directions have the same."""
        if self.guide != "none" or self.keep or self.teacher or batch.hard.shape[1]:
            return None
        return math.log1p(self.negatives_per_anchor(batch))


def _check_settings(**values: float) -> None:
    """Raise UserError unless each is above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name} must be above 0; got {value}.")
