"""Batches of pairs that are compared with all texts of a step, false negatives left out.
Shapes: ``B`` pairs of this rank, ``N`` of all ranks, ``H`` hard negatives of a pair, ``U`` texts,
``M`` hard negatives of all ranks that there are, ``F`` and ``G`` excluded candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch.example_batch import EXAMPLE_ROWS, PER_EXAMPLE, PER_TEXT, ExampleBatch
from sciembed_train.batch.token_rows import HOST, TokenRows


@dataclass(frozen=True)
class ContrastBatch(ExampleBatch):
    """One rank's share of one optimiser step of pairs, and their excluded negatives.

    Candidates of an anchor are the positives of all ranks' pairs ``[N]``, then the hard negatives
    ``[M]``; those of a positive are the anchors of all ranks' pairs. A micro-batch keeps the
    fields on the whole step.

    Args:
        rows: each distinct text of the share once.
        texts: the number of each text in the corpus, by which vectors of it may be kept; -1 for
            none. On the host.
        anchor, positive: rows of each pair's texts in ``rows``.
        hard: rows of each pair's hard negatives; the positive's where there are fewer.
        source: the source of each pair.
        hard_kept: which of all ranks' ``N x H`` hard negatives exist.
        excluded: pairs (row here, candidate) that are not compared; never the own positive.
        excluded_back: the same of positives and anchors.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    texts: Int[Tensor, " U"] = field(metadata={**PER_TEXT, **HOST})
    anchor: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    positive: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    hard: Int[Tensor, "B H"] = field(metadata=EXAMPLE_ROWS)
    source: Int[Tensor, " B"] = field(metadata=PER_EXAMPLE)
    hard_kept: Int[Tensor, " M"]
    excluded: Int[Tensor, "F 2"]
    excluded_back: Int[Tensor, "G 2"]
    step: int

    def largest(self, examples: int, length: int) -> ContrastBatch:
        """See `ExampleBatch.largest`; no candidate is excluded, and no vector may be kept."""
        none = self.excluded[:0]
        every = examples * self.hard.shape[1] * distributed.world_size()
        whole = super().largest(examples, length)
        return replace(
            whole,
            texts=torch.full((len(whole.rows),), -1),
            hard_kept=torch.arange(every),
            excluded=none,
            excluded_back=none,
        )
