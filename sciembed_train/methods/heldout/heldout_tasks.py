"""What training on tasks consists of: heads and losses, and the scores of held-out examples.

Shapes: ``B`` examples of a task, ``C`` its classes, ``D`` width, ``U`` texts, ``P`` held-out texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sciembed_train import distributed
from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    PaperBatch,
    TaskKind,
    TokenRows,
    TripletPart,
    index_ranges,
    on_device,
)
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.losses.similarity import euclidean
from sciembed_train.methods.heldout.heldout_vectors import gather_columns
from sciembed_train.methods.loss import full_precision, widest_float

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
HEAD_DEVIATION = 0.02  # of the weights that a head starts with
_FACTOR = -7046029254386353131  # odd, its bits without a pattern: 2 ** 64 over the golden ratio


class TaskHeads(nn.Module):
    """A linear layer for each task that has labels, after dropout.

    SciRepEval, Singh et al. (2023), section 4.2. Weights start at N(0, 0.02), biases at 0.

    Args:
        kinds: every task; triplets have no head.
        width: of an embedding, ``D``.
        dropout: of the embedding.
    """

    def __init__(self, kinds: Sequence[TaskKind], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # The name of a module may hold no dot and be no method's; that of a task may.
        self.keys = {
            kind.name: f"{place} {kind.name}".replace(".", "_")
            for place, kind in enumerate(kinds)
            if kind.target != "triplet"
        }
        self.layers = nn.ModuleDict(
            {
                self.keys[kind.name]: nn.Linear(width, max(1, kind.classes))
                for kind in kinds
                if kind.name in self.keys
            }
        )
        for layer in self.layers.values():
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=HEAD_DEVIATION)
            nn.init.zeros_(layer.bias)

    def forward(self, task: str, vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """A task's scores of each class, or the number it tells; in the vectors' precision."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.layers[self.keys[task]](self.dropout(vectors))


def label_losses(
    kind: TaskKind,
    scores: Float[Tensor, "B C"],
    label: Int[Tensor, " B"] | Float[Tensor, " B"] | Float[Tensor, "B C"],
) -> Float[Tensor, " B"]:
    """The loss of each labelled example.

    Cross-entropy of a class; binary cross-entropy of classes, mean over them; squared error of a
    number, which is told as it is in the data.
    """
    if kind.target == "class":
        return functional.cross_entropy(scores, label, reduction="none")
    label = label.to(scores.dtype)
    if kind.target == "classes":
        losses = functional.binary_cross_entropy_with_logits(scores, label, reduction="none")
        return losses.mean(1)
    return (scores.squeeze(1) - label) ** 2


def fingerprints(rows: TokenRows) -> Int[Tensor, " U"]:
    """A number of 64 bits for each text: equal texts have equal ones, others unlike ones.

    A polynomial of the ids, in integers that wrap around, so that ranks can tell equal texts
    apart from others without sending them.
    """
    ids, lengths = rows.ids, rows.lengths.numpy()
    longest = int(lengths.max()) if len(lengths) else 0
    powers = torch.full((longest,), _FACTOR, device=ids.device).cumprod(0)
    texts = np.repeat(np.arange(len(lengths)), lengths)
    place, of = on_device(ids.device, index_ranges(np.zeros_like(lengths), lengths), texts)
    # Squared with a shift between, so that near ids do not stand in near numbers.
    mixed = (ids + 1) * _FACTOR
    mixed = (mixed ^ (mixed >> 29)) * powers[place]
    return ids.new_zeros(len(lengths)).index_add(0, of, mixed)


class HeldOutTasks:
    """How the held-out examples of every task fare.

    Args:
        heads: of the tasks, in evaluation mode while scores are made.
        weights: of the tasks' losses, by name; 1 of those that are not named.
        loss: of triplets, from the distances to the positive and to the negative.
    """

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
        self._vectors: list[Tensor] = []
        self._slots: list[Tensor] = []

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode some held-out texts, each under its format."""
        assert batch.formats is not None
        self._vectors.append(full_precision(encode(encoder, batch.rows, batch.formats)))
        self._slots.append(batch.slots)

    def scores(self, dev: DevTasks, device: torch.device) -> dict[str, float]:
        """The scores of each task, and ``loss``, the weighted sum of their losses.

        Every rank receives all vectors and computes the same numbers. Only examples whose texts
        were encoded count (Lightning may be told to validate on a part).
        """
        none = torch.zeros(0, dtype=torch.int64, device=device)
        slots = distributed.gather_ragged(torch.cat([none, *self._slots]))
        (vectors,) = gather_columns([self._vectors], device)
        if not len(slots):
            return {}
        table = vectors.new_zeros(dev.texts, vectors.shape[1])
        table[slots] = vectors
        there = torch.zeros(dev.texts, dtype=torch.bool, device=device)
        there[slots] = True
        parts = {part.task: part.to(device) for part in dev.parts}
        found: dict[str, float] = {}
        total = 0.0
        for kind in dev.tasks:
            part = parts.get(kind.name)
            if part is None:
                continue
            examples = torch.nonzero(there[part.members()].all(1)).squeeze(1)
            if not len(examples):
                continue
            scores = self._task(kind, part, examples, table)
            found |= {f"{kind.name}_{name}": score for name, score in scores.items()}
            total += self.weights.get(kind.name, 1.0) * scores["loss"]
        return {"loss": total, **found} if found else {}

    def _task(
        self,
        kind: TaskKind,
        part: TripletPart | LabelPart,
        examples: Int[Tensor, " B"],
        table: Float[Tensor, "P D"],
    ) -> dict[str, float]:
        wide = widest_float(table)
        if isinstance(part, TripletPart):
            near, far = torch.cat(
                [
                    torch.stack(
                        [
                            euclidean(table[part.anchor[some]], table[other[some]])
                            for other in (part.positive, part.negative)
                        ]
                    )
                    for some in examples.split(4096)
                ],
                dim=1,
            )
            losses = self.loss(near, far)
            return {
                "loss": losses.to(wide).mean().item(),
                "accuracy": (near < far).to(wide).mean().item(),
            }
        label = part.label[examples]
        rows = part.text[examples].split(4096)
        told = torch.cat([self.heads(kind.name, table[some]) for some in rows])
        found = {"loss": label_losses(kind, told, label).to(wide).mean().item()}
        if kind.target == "number":
            given = label.to(wide)
            rest = ((told.squeeze(1).to(wide) - given) ** 2).sum()
            spread = ((given - given.mean()) ** 2).sum()
            kendall = kendall_tau_b(told.squeeze(1), label)
            explained = (1 - rest / spread).item() if spread > 0 else 0.0
            return {**found, "kendall": kendall, "r2": explained}
        if kind.target == "class":
            said = told.argmax(1)
            found["accuracy"] = (said == label).to(wide).mean().item()
            one_hot = partial(functional.one_hot, num_classes=kind.classes)
            return {**found, "macro_f1": macro_f1(one_hot(said), one_hot(label))}
        return {**found, "macro_f1": macro_f1((told > 0).long(), (label > 0).long())}


def encode(encoder: Encoder, rows: TokenRows, formats: Int[Tensor, " U"]) -> Float[Tensor, "U D"]:
    """The embedding of each text; one that knows no formats reads all texts alike."""
    return encoder(rows, formats) if encoder.format_reader.reads_formats else encoder(rows)


def macro_f1(said: Int[Tensor, "B C"], label: Int[Tensor, "B C"]) -> float:
    """The mean F1 of the classes that are in the labels or were said."""
    both, either = (said * label).sum(0), said.sum(0) + label.sum(0)
    there = either > 0
    if not there.any():
        return 0.0
    return (2 * both[there].to(widest_float(both)) / either[there]).mean().item()


def kendall_tau_b(x: Float[Tensor, " B"], y: Float[Tensor, " B"]) -> float:
    """How alike two orders are, from -1 to 1, ties counted as in the form b; 0 where all tie."""
    agreeing, untied_x, untied_y = 0, 0, 0
    step = max(1, 2**24 // max(1, len(x)))
    for some in torch.arange(len(x), device=x.device).split(step):
        of_x = torch.sign(x[some, None] - x).to(torch.int8)
        of_y = torch.sign(y[some, None] - y).to(torch.int8)
        agreeing += int((of_x * of_y).sum())
        untied_x, untied_y = untied_x + int((of_x != 0).sum()), untied_y + int((of_y != 0).sum())
    return agreeing / (untied_x * untied_y) ** 0.5 if untied_x and untied_y else 0.0
