"""SPECTER2's adapter stage: tasks of several formats trained together.

Singh, D'Arcy, Cohan, Downey and Feldman (2023), "SciRepEval: A Multi-Format Benchmark for
Scientific Document Representations", section 4.

Shapes: ``B`` examples of a task on this rank, ``N`` on all ranks, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    TaskBatch,
    TaskKind,
    TripletPart,
    on_device,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.losses.similarity import euclidean, unit
from sciembed_train.losses.supervised_contrastive import supervised_contrastive
from sciembed_train.losses.triplet import triplet_margin
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache, MicroBatchEmbeddings
from sciembed_train.methods.heldout.heldout_tasks import (
    SCORES,
    VALIDATION_SCORES,
    HeldOutTasks,
    TaskHeads,
    encode,
    fingerprints,
    label_losses,
)
from sciembed_train.methods.in_batch_negatives import against_candidates, not_known_as_near
from sciembed_train.methods.loss import Loss, full_precision
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.text.input_format import FORMATS


@dataclass(frozen=True)
class Contrastive:
    """The loss of a classification whose task says ``contrastive``.

    Args:
        weight: of the supervised contrastive part; that of the cross-entropy is the rest to 1.
        temperature: what cosines are divided by.
        count_itself: count a text among those of its class when their mean is taken, as published;
            otherwise as in Khosla et al. (2020).

    Raises:
        UserError: a value is out of its range.
    """

    weight: float = 0.9
    temperature: float = 0.3
    count_itself: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise UserError(f"contrastive.weight is {self.weight}; it is above 0 and at most 1.")
        if not self.temperature > 0:
            raise UserError(f"contrastive.temperature is {self.temperature}; it is above 0.")


class MultiTask(Method):
    """The sum over tasks of the mean loss of a task's examples in the step, over all ranks.

    Of a frozen backbone with adapters only these and the heads are trained (SPECTER2, second
    stage); without adapters all of it (MTL CLS), and with control codes these as well (MTL CTRL).
    The step is the same on any number of ranks and in any number of micro-batches.

    Args:
        encoder: backbone, adapters or control codes, length.
        optim: the optimiser, its schedule and clipping.
        weights: what a task's loss is multiplied by, by the task's name; 1 for the others.
        margin: how much farther the negative of a triplet must be, in the unit of the distance.
        negatives: ``one``: a triplet's own negative, as published. ``all``: the positives and
            negatives of all the step's triplets of the task, less texts that some triplet of the
            step pairs with the same query.
        temperature: of ``all``, for the cross-entropy of ``-distance / temperature``; null for
            the margin.
        contrastive: the loss of classifications that ask for it.
        head_dropout: of the embedding before a head.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is cut by
            whole examples. Those that meet others of the step (``all``, contrastive) are encoded
            twice (`methods.engine.gradient_cache`). See `Method`.

    Raises:
        UserError: a setting is out of its range, or serves nothing.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        weights: dict[str, float] | None = None,
        margin: float = 1.0,
        negatives: Literal["one", "all"] = "one",
        temperature: float | None = None,
        contrastive: Contrastive = Contrastive(),
        head_dropout: float = 0.2,
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
    ) -> None:
        for task, weight in (weights or {}).items():
            if not weight > 0:
                raise UserError(
                    f"weights.{task} is {weight}; it is above 0. A task that is not to be trained "
                    "is left out of the list of tasks."
                )
        if not margin >= 0:
            raise UserError(
                f"margin is in the unit of the distance and must be 0 or more; got {margin}."
            )
        if temperature is not None and negatives == "one":
            raise UserError("temperature belongs to negatives: all; one negative has a margin.")
        if temperature is not None and not temperature > 0:
            raise UserError(f"temperature must be above 0, or null; got {temperature}.")
        if not 0 <= head_dropout < 1:
            raise UserError(f"head_dropout is {head_dropout}; it is at least 0 and below 1.")
        super().__init__(encoder, optim, max_tokens_per_backward)
        self.weights = dict(weights or {})
        self.margin, self.negatives, self.temperature = margin, negatives, temperature
        self.contrastive, self.head_dropout = contrastive, head_dropout
        self.tasks: tuple[TaskKind, ...] = ()

    def prepare(self, dev: Any) -> None:
        """Make a head for each task that has labels."""
        if not isinstance(dev, DevTasks):
            raise UserError(
                "MultiTask trains on tasks, but data.sampling gives other examples. Give "
                "data.sampling as configs/specter2_adapters.yaml does."
            )
        names = [kind.name for kind in dev.tasks]
        for name in self.weights:
            if name not in names:
                raise UserError(
                    f"weights.{name} names no task of the corpus; its tasks are {', '.join(names)}."
                )
        self.tasks = dev.tasks
        self._validated = {part.task for part in dev.parts if len(part)}
        self.heads = TaskHeads(dev.tasks, self.encoder.dim, self.head_dropout)
        self._held_out = HeldOutTasks(self.heads, self.weights, self._triplet_loss)

    @property
    def held_out(self) -> HeldOutTasks:
        """Loss and scores of each task's held-out examples, and the weighted sum of the losses."""
        return self._held_out

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """Of every task that has held-out examples."""
        found = [
            f"val/{kind.name}_{score}"
            for kind in self.tasks
            if kind.name in self._validated
            for score in SCORES[kind.target]
        ]
        return ("val/loss", *found)

    def check(self, batch: Any) -> None:
        """See that the tasks' formats are those of the adapters.

        Raises:
            UserError: they are not.
        """
        adapters = self.encoder.settings.adapters
        if adapters is None:
            return
        known = list(FORMATS)
        there = {known[place] for place in batch.formats.unique().tolist()}
        for name in sorted(there - set(adapters.formats)):
            raise UserError(
                f"Tasks of the corpus are of format {name}, which has no adapter: add it to "
                f"encoder.adapters.formats ({', '.join(adapters.formats)}), or leave these tasks "
                "out of the list."
            )
        lacking = sorted(set(adapters.formats) - there)
        if lacking:
            left = ", ".join(name for name in adapters.formats if name in there)
            raise UserError(
                f"encoder.adapters.formats has {', '.join(lacking)}, and no task of the corpus is "
                "of that format, so the adapter would not be trained: leave it out "
                f"(--model.encoder.adapters.formats '[{left}]')."
            )

    def gradients(self, batch: TaskBatch, micro_batches: list[TaskBatch]) -> dict[str, Tensor]:
        """Gradients of the sum of the tasks' means, each over all ranks."""
        # An unequal share of a task's examples on the ranks must not weigh them unequally.
        held = {part.task: len(part) for part in batch.parts}
        sizes = np.array([held.get(kind.name, 0) for kind in self.tasks])
        (here,) = on_device(batch.rows.ids.device, sizes)
        every = distributed.sum_over_ranks(here).clamp(min=1)
        counts = {kind.name: count for kind, count in zip(self.tasks, every, strict=True)}
        compared = [kind for kind in self.tasks if self._compared(kind) and held.get(kind.name)]

        def encode(micro_batch: TaskBatch) -> MicroBatchEmbeddings:
            return self._encode(micro_batch, counts, compared)

        def in_batch_loss(*columns: Tensor) -> Loss:
            return self._in_batch_loss(columns, micro_batches, counts, compared)

        names = {kind.name for kind in compared}
        cache = GradientCache(
            self.passes,
            encode,
            in_batch_loss if compared else None,
            lambda micro_batch: any(part.task in names for part in micro_batch.parts),
        )
        means = cache.gradients(batch.step, micro_batches)
        logged = {"loss", *(f"{task}_loss" for task in held)}
        return {name: mean * len(batch) for name, mean in means.items() if name in logged}

    def _compared(self, kind: TaskKind) -> bool:
        """Whether examples of a task are compared with others of the step."""
        return kind.contrastive or (kind.target == "triplet" and self.negatives == "all")

    def _encode(
        self, micro_batch: TaskBatch, counts: dict[str, Tensor], compared: Sequence[TaskKind]
    ) -> MicroBatchEmbeddings:
        """Local losses of the examples, and vectors of those that are compared with others."""
        vectors = full_precision(encode(self.encoder, micro_batch.rows, micro_batch.formats))
        there = {part.task: part for part in micro_batch.parts}
        local = vectors.new_zeros(())
        parts: dict[str, Tensor] = {}
        columns: dict[str, tuple[Tensor, ...]] = {}
        for kind in self.tasks:
            part = there.get(kind.name, _none_of(kind, vectors.device))
            if isinstance(part, TripletPart):
                own = vectors[part.anchor], vectors[part.positive], vectors[part.negative]
                if self._compared(kind):
                    columns[kind.name] = own
                    continue
                near, far = euclidean(own[0], own[1]), euclidean(own[0], own[2])
                losses = self._triplet_loss(near, far)
            else:
                own = vectors[part.text]
                losses = label_losses(kind, self.heads(kind.name, own), part.label)
                if kind.contrastive:
                    columns[kind.name] = (unit(own),)
                    losses = losses * (1 - self.contrastive.weight)
            loss = losses.sum() * distributed.world_size() / counts[kind.name]
            local = local + loss * self.weights.get(kind.name, 1.0)
            parts[f"{kind.name}_loss"] = loss.detach()
        columns_of_tasks = tuple(column for kind in compared for column in columns[kind.name])
        return MicroBatchEmbeddings(columns_of_tasks, local, parts)

    def _in_batch_loss(
        self,
        columns: Sequence[Tensor],
        micro_batches: Sequence[TaskBatch],
        counts: dict[str, Tensor],
        compared: Sequence[TaskKind],
    ) -> Loss:
        """Losses of the examples that are compared with each other, of all ranks."""
        left = list(columns)
        value = columns[0].new_zeros(())
        parts: dict[str, Tensor] = {}
        for kind in compared:
            if kind.target == "triplet":
                anchors, positives, negatives = left[:3]
                del left[:3]
                losses = self._all(anchors, positives, negatives, _texts(micro_batches, kind.name))
            else:
                rows, labels = left.pop(0), _labels(micro_batches, kind.name)
                losses = self.contrastive.weight * supervised_contrastive(
                    rows,
                    labels,
                    self.contrastive.temperature,
                    others=distributed.gather(rows),
                    other_labels=distributed.gather_ragged(labels),
                    first=distributed.rank() * len(rows),
                    count_itself=self.contrastive.count_itself,
                )
            loss = losses.sum() * distributed.world_size() / counts[kind.name]
            value = value + loss * self.weights.get(kind.name, 1.0)
            parts[f"{kind.name}_loss"] = loss.detach()
        return Loss(value, parts)

    def _all(
        self,
        anchors: Float[Tensor, "B D"],
        positives: Float[Tensor, "B D"],
        negatives: Float[Tensor, "B D"],
        texts: Int[Tensor, "B 3"],
    ) -> Float[Tensor, " B"]:
        """Loss of each triplet against every allowed text of the task's triplets of the step."""
        others = torch.cat([distributed.gather(positives), distributed.gather(negatives)])
        allowed = not_known_as_near(texts, distributed.gather_ragged(texts))
        margin, temperature = self.margin, self.temperature
        return against_candidates(anchors, positives, others, allowed, margin, temperature)

    def _triplet_loss(self, near: Tensor, far: Tensor) -> Tensor:
        return triplet_margin(near, far, self.margin)

    def negatives_per_anchor(self, batch: TaskBatch) -> float:
        """Of a triplet: its own; or those of its task, with those that are known to be near."""
        sizes = [len(part) for part in batch.parts if isinstance(part, TripletPart)]
        if self.negatives == "one" or not sum(sizes):
            return float(bool(sum(sizes)))
        every = distributed.world_size()
        return sum(size * (2 * size * every - 1) for size in sizes) / sum(sizes)

    def split(self, batch: TaskBatch, tokens: int | None) -> list[TaskBatch]:
        """The batch in micro-batches of whole examples; what is compared with others
        is not mixed with what is not."""
        compared = {kind.name for kind in self.tasks if self._compared(kind)}
        return batch.split(tokens, apart=compared)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, and the tasks of the heads."""
        return {**super().settings(), "tasks": [asdict(kind) for kind in self.tasks]}


def _none_of(kind: TaskKind, device: torch.device) -> TripletPart | LabelPart:
    """No example of a task: its head gets a gradient of zeros, as every rank must give one."""
    none = torch.zeros(0, dtype=torch.int64, device=device)
    if kind.target == "triplet":
        return TripletPart(kind.name, none, none, none)
    if kind.target == "class":
        return LabelPart(kind.name, none, none)
    label = torch.zeros((0, kind.classes) if kind.target == "classes" else 0, device=device)
    return LabelPart(kind.name, none, label)


def _texts(micro_batches: Sequence[TaskBatch], task: str) -> Int[Tensor, "B 3"]:
    """What tells the texts of a task's triplets from others, in the order of the micro-batches."""
    found = []
    for micro_batch in micro_batches:
        texts = fingerprints(micro_batch.rows)
        found += [
            torch.stack([texts[part.anchor], texts[part.positive], texts[part.negative]], dim=1)
            for part in micro_batch.parts
            if isinstance(part, TripletPart) and part.task == task
        ]
    return torch.cat(found)


def _labels(micro_batches: Sequence[TaskBatch], task: str) -> Int[Tensor, " B"]:
    """The classes of a task's texts, in the order of the micro-batches."""
    parts = [
        part for micro_batch in micro_batches for part in micro_batch.parts if part.task == task
    ]
    return torch.cat([part.label for part in parts if isinstance(part, LabelPart)])
