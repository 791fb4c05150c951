"""Batches of triplets, and of pairs whose negatives come from the same step over all ranks.

Shapes: ``B`` triplets or pairs of this rank, ``U`` texts, ``S`` their sentences, ``F`` excluded
negatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch.example_batch import EXAMPLE_ROWS, PER_EXAMPLE, PER_TEXT, ExampleBatch
from sciembed_train.batch.token_rows import Sentences, TokenRows


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


@dataclass(frozen=True)
class PairBatch(ExampleBatch):
    """One rank's share of one optimiser step of pairs, and their in-batch negatives.

    Pairs of the whole step are numbered over all ranks, so a micro-batch keeps the ``excluded`` of
    its batch: pairs are compared in the batch, not in a micro-batch.

    Args:
        rows: each distinct paper of the share once.
        anchor, positive: rows of each pair's papers in ``rows``.
        negative: the pair of the whole step, of all ranks, whose positive is each pair's negative;
            -1 where there is none.
        excluded: pairs (row here, pair of the whole step) whose positive is no negative: the own
            one, and papers known to be related to the anchor.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    anchor: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    positive: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    negative: Int[Tensor, " B"] = field(metadata=PER_EXAMPLE)
    excluded: Int[Tensor, "F 2"]
    step: int

    def largest(self, examples: int, length: int) -> PairBatch:
        """See `ExampleBatch.largest`; each pair's negative is its neighbour's positive."""
        numbers = pair_numbers(examples)
        return replace(
            super().largest(examples, length),
            negative=numbers.roll(1),
            excluded=torch.stack([numbers - numbers[0], numbers], dim=1),
        )


@dataclass(frozen=True)
class SentencePairBatch(ExampleBatch):
    """One rank's share of one optimiser step of pairs that are compared sentence by sentence.

    Args:
        rows: each distinct paper of the share once.
        sentences: of these papers.
        anchor, positive: rows of each pair's papers in ``rows``.
        negative: the pair of the whole step, of all ranks, whose positive is each pair's negative;
            -1 where there is none.
        negative_count: sentences of that positive; 0 where there is none.
        aligned: the anchor's sentence and the positive's that are aligned, counted in their texts;
            -1 where none is known.
        negative_aligned: the same of the pair whose positive is the negative.
        most: the largest number of sentences of a paper of the whole step, of all ranks.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    sentences: Sentences = field(metadata=PER_TEXT)
    anchor: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    positive: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    negative: Int[Tensor, " B"] = field(metadata=PER_EXAMPLE)
    negative_count: Int[Tensor, " B"] = field(metadata=PER_EXAMPLE)
    aligned: Int[Tensor, "B 2"] = field(metadata=PER_EXAMPLE)
    negative_aligned: Int[Tensor, "B 2"] = field(metadata=PER_EXAMPLE)
    most: int
    step: int

    def largest(self, examples: int, length: int) -> SentencePairBatch:
        """See `ExampleBatch.largest`; every text has ``most`` sentences of equal length."""
        most, texts = min(self.most, length), 2 * examples
        starts = torch.arange(most) * (length // most)
        aligned = torch.zeros(examples, 2, dtype=torch.int64)
        return replace(
            super().largest(examples, length),
            sentences=Sentences(
                starts.repeat(texts),
                torch.full((most * texts,), length // most),
                torch.full((texts,), most),
            ),
            negative=pair_numbers(examples).roll(1),
            negative_count=torch.full((examples,), most),
            aligned=aligned,
            negative_aligned=aligned,
        )


def pair_numbers(pairs: int) -> Int[Tensor, " B"]:
    """Numbers of this rank's pairs among all ranks' pairs."""
    first = distributed.rank() * pairs
    return torch.arange(first, first + pairs)
