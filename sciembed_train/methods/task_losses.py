"""The losses of tasks in an optimiser step: of examples alone, and compared with others.

Shapes: ``B`` examples of a task on this rank, ``N`` on all ranks, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import LabelPart, TaskBatch, TaskKind, TripletPart, on_device
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.losses.similarity import euclidean, unit
from sciembed_train.losses.supervised_contrastive import supervised_contrastive
from sciembed_train.losses.triplet import triplet_margin
from sciembed_train.methods.engine.gradient_cache import MicroBatchEmbeddings
from sciembed_train.methods.in_batch_negatives import (
    against_candidates,
    not_known_as_near,
    text_fingerprints,
)
from sciembed_train.methods.loss import Loss, full_precision
from sciembed_train.methods.task_heads import TaskHeads, encode_formats, label_losses


@dataclass(frozen=True)
class Contrastive:
    """The loss of a classification whose task is ``contrastive``.

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


@dataclass(frozen=True)
class TaskLosses:
    """What a task's loss is, by the settings of a run.

    Args:
        weights: what a task's loss is multiplied by, by the task's name; 1 for the others.
        margin: of triplets, in the unit of the distance.
        negatives: a triplet's own (``one``), or those of all the step's triplets of the task.
        temperature: of the cross-entropy over ``all``; None for the margin.
        contrastive: the loss of classifications that ask for it.
    """

    weights: Mapping[str, float]
    margin: float
    negatives: Literal["one", "all"]
    temperature: float | None
    contrastive: Contrastive

    def compares(self, kind: TaskKind) -> bool:
        """Whether examples of a task are compared with others of the step."""
        return kind.contrastive or (kind.target == "triplet" and self.negatives == "all")

    def weighted(self, kind: TaskKind, loss: Tensor) -> Tensor:
        """The loss of a task times its weight."""
        return loss * self.weights.get(kind.name, 1.0)

    def triplet(self, positive_distance: Tensor, negative_distance: Tensor) -> Tensor:
        """Loss of each triplet with its own negative."""
        return triplet_margin(positive_distance, negative_distance, self.margin)

    def triplets_against_all(
        self,
        anchors: Float[Tensor, "B D"],
        positives: Float[Tensor, "B D"],
        negatives: Float[Tensor, "B D"],
        texts: Int[Tensor, "B 3"],
    ) -> Float[Tensor, " B"]:
        """Loss of each triplet against every allowed text of the task's triplets of the step."""
        others = torch.cat([distributed.gather(positives), distributed.gather(negatives)])
        allowed = not_known_as_near(texts, distributed.gather_ragged(texts))
        return against_candidates(
            anchors, positives, others, allowed, self.margin, self.temperature
        )

    def contrastive_classes(
        self, vectors: Float[Tensor, "B D"], labels: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The contrastive part of each text's loss, against the texts of all ranks."""
        return self.contrastive.weight * supervised_contrastive(
            vectors,
            labels,
            self.contrastive.temperature,
            others=distributed.gather(vectors),
            other_labels=distributed.gather_ragged(labels),
            first=distributed.rank() * len(vectors),
            count_itself=self.contrastive.count_itself,
        )


@dataclass(frozen=True)
class TaskStep:
    """The losses of one optimiser step, for the gradient cache.

    Each task's loss is the mean over its examples of all ranks.

    Args:
        encoder: encodes each text under its format.
        tasks: all tasks, also those without an example in the step.
        heads: of the tasks with labels.
        losses: what the tasks' losses are.
        batch: this rank's share of the step.
        micro_batches: the same in micro-batches.
        counts: examples of each task on all ranks, at least 1; set by `count_examples`.
    """

    encoder: Encoder
    tasks: tuple[TaskKind, ...]
    heads: TaskHeads
    losses: TaskLosses
    batch: TaskBatch
    micro_batches: Sequence[TaskBatch]
    counts: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def own_counts(self) -> dict[str, int]:
        """Examples of this rank by task."""
        return {part.task: len(part) for part in self.batch.parts}

    @cached_property
    def compared(self) -> list[TaskKind]:
        """Tasks with examples that are compared with others of the step."""
        return [
            kind
            for kind in self.tasks
            if self.losses.compares(kind) and self.own_counts.get(kind.name)
        ]

    def count_examples(self) -> None:
        """Set ``counts``; a collective.

        An unequal share of a task's examples on the ranks must not weigh them unequally.
        """
        sizes = np.array([self.own_counts.get(kind.name, 0) for kind in self.tasks])
        (own,) = on_device(self.batch.rows.ids.device, sizes)
        totals = distributed.sum_over_ranks(own).clamp(min=1)
        names = (kind.name for kind in self.tasks)
        self.counts.update(zip(names, totals, strict=True))

    def holds_compared(self, micro_batch: TaskBatch) -> bool:
        """Whether a micro-batch has examples that are compared with others."""
        names = {kind.name for kind in self.compared}
        return any(part.task in names for part in micro_batch.parts)

    def encode(self, micro_batch: TaskBatch) -> MicroBatchEmbeddings:
        """Local losses of the examples, and vectors of those that are compared with others."""
        vectors = encode_formats(self.encoder, micro_batch.rows, micro_batch.formats)
        vectors = full_precision(vectors)
        parts_by_task = {part.task: part for part in micro_batch.parts}
        local_loss = vectors.new_zeros(())
        logged: dict[str, Tensor] = {}
        columns: dict[str, tuple[Tensor, ...]] = {}
        for kind in self.tasks:
            part = parts_by_task.get(kind.name, no_examples(kind, vectors.device))
            if isinstance(part, TripletPart):
                triplets = vectors[part.anchor], vectors[part.positive], vectors[part.negative]
                if self.losses.compares(kind):
                    columns[kind.name] = triplets
                    continue
                anchors, positives, negatives = triplets
                losses = self.losses.triplet(
                    euclidean(anchors, positives), euclidean(anchors, negatives)
                )
            else:
                texts = vectors[part.text]
                losses = label_losses(kind, self.heads(kind.name, texts), part.label)
                if kind.contrastive:
                    columns[kind.name] = (unit(texts),)
                    losses = losses * (1 - self.losses.contrastive.weight)
            loss = self._mean(kind, losses)
            local_loss = local_loss + self.losses.weighted(kind, loss)
            logged[f"{kind.name}_loss"] = loss.detach()
        compared = tuple(column for kind in self.compared for column in columns[kind.name])
        return MicroBatchEmbeddings(compared, local_loss, logged)

    def in_batch_loss(self, *columns: Tensor) -> Loss:
        """Losses of the examples that are compared with each other, of all ranks."""
        rest = list(columns)
        value = columns[0].new_zeros(())
        logged: dict[str, Tensor] = {}
        for kind in self.compared:
            if kind.target == "triplet":
                triplets, rest = rest[:3], rest[3:]
                losses = self.losses.triplets_against_all(*triplets, self._texts(kind.name))
            else:
                vectors, rest = rest[0], rest[1:]
                losses = self.losses.contrastive_classes(vectors, self._labels(kind.name))
            loss = self._mean(kind, losses)
            value = value + self.losses.weighted(kind, loss)
            logged[f"{kind.name}_loss"] = loss.detach()
        return Loss(value, logged)

    def _mean(self, kind: TaskKind, losses: Tensor) -> Tensor:
        """This rank's part of a task's mean: the mean over ranks of these parts."""
        return losses.sum() * distributed.world_size() / self.counts[kind.name]

    def _texts(self, task: str) -> Int[Tensor, "B 3"]:
        """Fingerprints of a task's triplets, in the order of the micro-batches."""
        triplets = []
        for micro_batch in self.micro_batches:
            texts = text_fingerprints(micro_batch.rows)
            triplets += [
                torch.stack([texts[part.anchor], texts[part.positive], texts[part.negative]], 1)
                for part in micro_batch.parts
                if isinstance(part, TripletPart) and part.task == task
            ]
        return torch.cat(triplets)

    def _labels(self, task: str) -> Int[Tensor, " B"]:
        """The classes of a task's texts, in the order of the micro-batches."""
        parts = [part for micro_batch in self.micro_batches for part in micro_batch.parts]
        labels = [p.label for p in parts if isinstance(p, LabelPart) and p.task == task]
        return torch.cat(labels)


def no_examples(kind: TaskKind, device: torch.device) -> TripletPart | LabelPart:
    """No example of a task: its head gets a gradient of zeros, as every rank must give one."""
    none = torch.zeros(0, dtype=torch.int64, device=device)
    if kind.target == "triplet":
        return TripletPart(kind.name, none, none, none)
    if kind.target == "class":
        return LabelPart(kind.name, none, none)
    label = torch.zeros((0, kind.classes) if kind.target == "classes" else 0, device=device)
    return LabelPart(kind.name, none, label)
