"""A batch of spans of documents, with masked tokens.

Shapes: ``B`` documents, ``A`` anchors of them all, ``P`` positives of an anchor, ``K`` tokens that
are masked, ``R`` rows of a document.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch.example_batch import ExampleBatch
from sciembed_train.batch.token_rows import HOST, TokenRows


@dataclass(frozen=True)
class SpanBatch(ExampleBatch):
    """Spans of some documents: one rank's share of a step, or held-out documents.

    An example is a document; every document has as many anchors. Where the anchors that are
    compared are themselves masked (DeCLUTR as published), ``anchor`` names the rows that hold the
    masked tokens. Otherwise it names unmasked rows, and the masked copies of the anchors are rows
    that neither ``anchor`` nor ``positive`` names.

    Args:
        rows: every span, special tokens included.
        anchor: row of each anchor, document after document.
        positive: rows of each anchor's positives; ``P`` may be 0.
        masked: positions in ``rows.ids`` of the tokens to be predicted, ascending; ``K`` may be 0.
            On the host.
        labels: the ids that stood there.
        documents: how many documents the spans are of.
        step: the optimiser step, counted from 0 over the whole run; -1 for held-out documents.
        first: number of the first document in the list of held-out documents; 0 in training.
    """

    rows: TokenRows
    anchor: Int[Tensor, " A"]
    positive: Int[Tensor, "A P"]
    masked: Int[Tensor, " K"] = field(metadata=HOST)
    labels: Int[Tensor, " K"]
    documents: int
    step: int
    first: int = 0

    def __len__(self) -> int:
        return self.documents

    def members(self) -> Int[Tensor, "B R"]:
        """Rows of each document: its anchors, their positives, masked copies of the anchors."""
        copies = torch.ones(len(self.rows), dtype=torch.bool)
        copies[torch.cat([self.anchor, self.positive.flatten()])] = False
        columns = (self.anchor, self.positive, copies.nonzero().squeeze(1))
        return torch.cat([rows.reshape(len(self), -1) for rows in columns], dim=1)

    def select(self, examples: slice) -> SpanBatch:
        """Consecutive documents, with rows document after document."""
        chosen = self.members()[examples]
        anchors = len(self.anchor) // len(self)
        spans = anchors * (1 + self.positive.shape[1])
        new_rows = torch.arange(chosen.numel()).reshape(chosen.shape)
        # The new position of each token of the batch; -1 where it is left out.
        numbers = torch.arange(self.rows.tokens)
        old_positions = replace(self.rows, ids=numbers).select(chosen.flatten()).ids
        new_positions = torch.full_like(numbers, -1)
        new_positions[old_positions] = torch.arange(len(old_positions))
        masked = new_positions[self.masked]
        order = torch.argsort(masked[masked >= 0])
        return replace(
            self,
            rows=self.rows.select(chosen.flatten()),
            anchor=new_rows[:, :anchors].flatten(),
            positive=new_rows[:, anchors:spans].reshape(len(chosen) * anchors, -1),
            masked=masked[masked >= 0][order],
            labels=self.labels[masked >= 0][order],
            documents=len(chosen),
        )

    def largest(self, examples: int, length: int) -> SpanBatch:
        """See `ExampleBatch.largest`; each anchor has the largest share of masked tokens here."""
        positives = self.positive.shape[1]
        anchors = len(self.anchor) // len(self) * examples
        spans = anchors * (1 + positives)
        copied = len(self.rows) > len(self.anchor) * (1 + positives)
        rows = self.rows.filled(spans + (anchors if copied else 0), length)
        masked = self.masked[:0]
        if len(self.masked):
            ends = torch.cumsum(self.rows.lengths, 0)
            row = torch.searchsorted(ends, self.masked, right=True)
            share = (torch.bincount(row)[row] / self.rows.lengths[row]).amax()
            count = max(1, min(length, int(share * length)))
            first_row = spans if copied else 0
            masked_rows = torch.arange(first_row, first_row + anchors)
            masked = (masked_rows[:, None] * length + torch.arange(count)).flatten()
        return replace(
            self,
            rows=rows,
            anchor=torch.arange(anchors),
            positive=torch.arange(anchors, spans).view(anchors, positives),
            masked=masked,
            labels=rows.ids[masked],
            documents=examples,
        )
