"""A batch of triplets: anchor, positive and negative of each example.

Shapes: ``B`` triplets of this rank.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch.example_batch import EXAMPLE_ROWS, ExampleBatch
from sciembed_train.batch.token_rows import TokenRows


@dataclass(frozen=True)
class TripletBatch(ExampleBatch):
    """One rank's share of one optimiser step of triplets.

    Args:
        rows: each distinct paper of the share once.
        anchor, positive, negative: rows of each triplet's papers in ``rows``.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    anchor: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    positive: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    negative: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    step: int
