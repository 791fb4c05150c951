"""Linear heads of tasks, their losses, and the encoding of texts under their formats.

Shapes: ``B`` examples of a task, ``C`` its classes, ``D`` width, ``U`` texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sciembed_train.batch import TaskKind, TokenRows
from sciembed_train.encoder.encoder import Encoder

HEAD_DEVIATION = 0.02  # of the weights that a head starts with


class TaskHeads(nn.Module):
    """A linear layer for each task that has labels, after dropout.

    SciRepEval, Singh et al. (2023), section 4.2. Weights start at N(0, 0.02), biases at 0.
    """

    def __init__(self, kinds: Sequence[TaskKind], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        # The name of a module may hold no dot and be no method's; that of a task may.
        self.keys = {
            kind.name: f"{position} {kind.name}".replace(".", "_")
            for position, kind in enumerate(kinds)
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
        """A task's score of each class, or the number it predicts; in the vectors' precision."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.layers[self.keys[task]](self.dropout(vectors))


def label_losses(
    kind: TaskKind,
    scores: Float[Tensor, "B C"],
    label: Int[Tensor, " B"] | Float[Tensor, " B"] | Float[Tensor, "B C"],
) -> Float[Tensor, " B"]:
    """The loss of each labelled example.

    Cross-entropy of a class; binary cross-entropy of classes, mean over them; squared error of a
    number, which is predicted as it is in the data.
    """
    if kind.target == "class":
        return functional.cross_entropy(scores, label, reduction="none")
    label = label.to(scores.dtype)
    if kind.target == "classes":
        losses = functional.binary_cross_entropy_with_logits(scores, label, reduction="none")
        return losses.mean(1)
    return (scores.squeeze(1) - label) ** 2


def encode_formats(
    encoder: Encoder, rows: TokenRows, formats: Int[Tensor, " U"]
) -> Float[Tensor, "U D"]:
    """The embedding of each text; an encoder without formats ignores them."""
    return encoder(rows, formats) if encoder.format_reader.reads_formats else encoder(rows)
