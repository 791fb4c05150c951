"""Scores of the held-out examples of tasks.

Shapes: ``B`` examples of a task, ``C`` its classes, ``D`` width, ``P`` held-out texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sciembed_train.batch import DevTasks, LabelPart, PaperBatch, TaskKind, TripletPart
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.losses.similarity import euclidean
from sciembed_train.methods.heldout.heldout_vectors import HeldOutVectors, scores_of_finite
from sciembed_train.methods.loss import full_precision, widest_float
from sciembed_train.methods.task_heads import TaskHeads, encode_formats, label_losses

# As a recipe may name them to choose the best checkpoint by; a star stands for a task.
VALIDATION_SCORES = (
    *("val/loss", "val/*_loss", "val/*_accuracy", "val/*_macro_f1"),
    *("val/*_kendall", "val/*_r2"),
)
SCORES = {
    "class": ("loss", "accuracy", "macro_f1"),
    "classes": ("loss", "macro_f1"),
    "number": ("loss", "kendall", "r2"),
    "triplet": ("loss", "accuracy"),
}
EXAMPLES = 4096  # compared at once


class HeldOutTasks:
    """Scores of each task, and the weighted sum of the tasks' losses."""

    def __init__(
        self,
        heads: TaskHeads,
        weights: Mapping[str, float],
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.heads, self.weights, self.loss = heads, weights, loss
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors = HeldOutVectors()

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode a batch of held-out texts, each under its format."""
        assert batch.formats is not None
        vectors = encode_formats(encoder, batch.rows, batch.formats)
        self._vectors.add(batch.slots, full_precision(vectors))

    def scores(self, dev: DevTasks, device: torch.device) -> dict[str, float]:
        """The scores of each task, and ``loss``, the weighted sum of their losses.

        Every rank receives all vectors and computes the same numbers. Only examples whose texts
        were encoded count (Lightning may be set to validate on a part).
        """
        gathered = self._vectors.table(dev.texts, device)
        if gathered is None:
            return {}
        table, encoded = gathered
        parts = {part.task: part.to(device) for part in dev.parts}
        scores: dict[str, float] = {}
        total = 0.0
        for kind in dev.tasks:
            part = parts.get(kind.name)
            if part is None:
                continue
            examples = torch.nonzero(encoded[part.members()].all(1)).squeeze(1)
            if not len(examples):
                continue
            if isinstance(part, TripletPart):
                own = self._triplet_scores(part, examples, table)
            else:
                own = self._label_scores(kind, part, examples, table)
            own = scores_of_finite(own, table[part.members()[examples]])
            scores |= {f"{kind.name}_{name}": score for name, score in own.items()}
            total += self.weights.get(kind.name, 1.0) * own["loss"]
        return {"loss": total, **scores} if scores else {}

    def _triplet_scores(
        self, part: TripletPart, examples: Int[Tensor, " B"], table: Float[Tensor, "P D"]
    ) -> dict[str, float]:
        """Mean loss, and in how many triplets the positive is nearer."""
        wide = widest_float(table)
        positive_distance, negative_distance = (
            torch.cat(
                [
                    euclidean(table[part.anchor[chunk]], table[other[chunk]])
                    for chunk in examples.split(EXAMPLES)
                ]
            )
            for other in (part.positive, part.negative)
        )
        return {
            "loss": self.loss(positive_distance, negative_distance).to(wide).mean().item(),
            "accuracy": (positive_distance < negative_distance).to(wide).mean().item(),
        }

    def _label_scores(
        self,
        kind: TaskKind,
        part: LabelPart,
        examples: Int[Tensor, " B"],
        table: Float[Tensor, "P D"],
    ) -> dict[str, float]:
        """Mean loss, and the scores of the task's target."""
        wide = widest_float(table)
        label = part.label[examples]
        texts = part.text[examples].split(EXAMPLES)
        predicted = torch.cat([self.heads(kind.name, table[chunk]) for chunk in texts])
        loss = label_losses(kind, predicted, label).to(wide).mean().item()
        if kind.target == "number":
            numbers, actual = predicted.squeeze(1), label.to(wide)
            residual = ((numbers.to(wide) - actual) ** 2).sum()
            variation = ((actual - actual.mean()) ** 2).sum()
            r2 = (1 - residual / variation).item() if variation > 0 else 0.0
            return {"loss": loss, "kendall": kendall_tau_b(numbers, label), "r2": r2}
        if kind.target == "class":
            classes = predicted.argmax(1)
            accuracy = (classes == label).to(wide).mean().item()
            one_hot = partial(functional.one_hot, num_classes=kind.classes)
            f1 = macro_f1(one_hot(classes), one_hot(label))
            return {"loss": loss, "accuracy": accuracy, "macro_f1": f1}
        f1 = macro_f1((predicted > 0).long(), (label > 0).long())
        return {"loss": loss, "macro_f1": f1}


def macro_f1(predicted: Int[Tensor, "B C"], label: Int[Tensor, "B C"]) -> float:
    """The mean F1 of the classes that are in the labels or were predicted."""
    both, either = (predicted * label).sum(0), predicted.sum(0) + label.sum(0)
    present = either > 0
    if not present.any():
        return 0.0
    return (2 * both[present].to(widest_float(both)) / either[present]).mean().item()


def kendall_tau_b(x: Float[Tensor, " B"], y: Float[Tensor, " B"]) -> float:
    """Rank correlation of two orders, from -1 to 1, ties counted as in form b; 0 if all tie."""
    concordant, untied_x, untied_y = 0, 0, 0
    step = max(1, 2**24 // max(1, len(x)))
    for rows in torch.arange(len(x), device=x.device).split(step):
        sign_x = torch.sign(x[rows, None] - x).to(torch.int8)
        sign_y = torch.sign(y[rows, None] - y).to(torch.int8)
        concordant += int((sign_x * sign_y).sum())
        untied_x += int((sign_x != 0).sum())
        untied_y += int((sign_y != 0).sum())
    return concordant / (untied_x * untied_y) ** 0.5 if untied_x and untied_y else 0.0
