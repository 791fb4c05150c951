"""The batch of a run that takes most memory: as many examples, every text as long as can be.

Its texts are all different, which those of a real batch mostly are not. What the texts say is of
no account: the ids are those of a real batch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import (
    LabelPart,
    PairBatch,
    SentencePairBatch,
    Sentences,
    SpanBatch,
    TaskBatch,
    TokenRows,
    TripletBatch,
    TripletPart,
)


@singledispatch
def largest_batch(batch: Any, examples: int, length: int) -> Any:
    """A batch like this one, with so many examples of texts of ``length`` tokens.

    None for a batch of a type that is not known here, as a method of one's own may have.

    Args:
        batch: a rank's share of a step, on the host; so is what comes back.
        examples: 1 or more.
        length: tokens of every text.
    """
    return None


@largest_batch.register
def _(batch: TripletBatch, examples: int, length: int) -> TripletBatch:
    anchor, positive, negative = _members(examples, 3, batch.anchor)
    rows = _texts(batch.rows, 3 * examples, length)
    return replace(batch, rows=rows, anchor=anchor, positive=positive, negative=negative)


@largest_batch.register
def _(batch: PairBatch, examples: int, length: int) -> PairBatch:
    anchor, positive = _members(examples, 2, batch.anchor)
    own = _among_all(anchor)
    return replace(
        batch,
        rows=_texts(batch.rows, 2 * examples, length),
        anchor=anchor,
        positive=positive,
        negative=own.roll(1),
        excluded=torch.stack([own - own[0], own], dim=1),
    )


@largest_batch.register
def _(batch: SentencePairBatch, examples: int, length: int) -> SentencePairBatch:
    anchor, positive = _members(examples, 2, batch.anchor)
    # As many sentences in every text as the paper of the step has that has most.
    most = min(batch.most, length)
    starts = torch.arange(most, device=anchor.device) * (length // most)
    size = torch.full_like(starts, length // most)
    texts = 2 * examples
    sentences = Sentences(starts.repeat(texts), size.repeat(texts), most + 0 * anchor.repeat(2))
    aligned = torch.zeros(examples, 2, dtype=torch.int64, device=anchor.device)
    return replace(
        batch,
        rows=_texts(batch.rows, texts, length),
        sentences=sentences,
        anchor=anchor,
        positive=positive,
        negative=_among_all(anchor).roll(1),
        negative_count=most + 0 * anchor,
        aligned=aligned,
        negative_aligned=aligned,
    )


@largest_batch.register
def _(batch: TaskBatch, examples: int, length: int) -> TaskBatch:
    parts: list[TripletPart | LabelPart] = []
    formats: list[Tensor] = []
    first = 0
    for part in batch.parts:
        size = max(1, round(len(part) * examples / len(batch)))
        if isinstance(part, TripletPart):
            texts, like = 3 * size, part.anchor
            columns = _members(size, 3, part.anchor)
            parts.append(TripletPart(part.task, *(column + first for column in columns)))
        else:
            texts, like = size, part.text
            (text,) = _members(size, 1, part.text)
            label = part.label[torch.arange(size, device=text.device) % len(part)]
            parts.append(LabelPart(part.task, text + first, label))
        formats.append(batch.formats[like[:1]].repeat(texts))
        first += texts
    rows = _texts(batch.rows, first, length)
    return replace(batch, rows=rows, formats=torch.cat(formats), parts=tuple(parts))


@largest_batch.register
def _(batch: SpanBatch, examples: int, length: int) -> SpanBatch:
    each, near = len(batch.anchor) // len(batch), batch.positive.shape[1]
    anchors = each * examples
    anchor = torch.arange(anchors, device=batch.anchor.device)
    positive = torch.arange(anchors, anchors * (1 + near), device=anchor.device)
    apart = len(batch.rows) > len(batch.anchor) * (1 + near)
    rows = _texts(batch.rows, anchors * (1 + near + int(apart)), length)
    masked = batch.masked[:0]
    if len(batch.masked):
        # In each anchor, or in each copy of one, as many as in the row that has most.
        ends = torch.cumsum(batch.rows.lengths, 0)
        row = torch.searchsorted(ends, batch.masked, right=True)
        share = (torch.bincount(row)[row] / batch.rows.lengths[row]).amax()
        count = max(1, min(length, int(share * length)))
        hidden = anchor + (anchors * (1 + near) if apart else 0)
        masked = (hidden[:, None] * length + torch.arange(count, device=hidden.device)).flatten()
    return replace(
        batch,
        rows=rows,
        anchor=anchor,
        positive=positive.view(anchors, near),
        masked=masked,
        labels=rows.ids[masked],
        documents=examples,
    )


def _texts(rows: TokenRows, count: int, length: int) -> TokenRows:
    ids = rows.ids.repeat(-(-count * length // len(rows.ids)))[: count * length]
    return TokenRows(ids, torch.full((count,), length, device=ids.device))


def _among_all(anchor: Tensor) -> Tensor:
    """Where this rank's pairs stand among all ranks' pairs."""
    own = torch.arange(len(anchor), device=anchor.device)
    return own + distributed.rank() * len(anchor)


def _members(examples: int, each: int, like: Tensor) -> tuple[Tensor, ...]:
    """The texts of each example: one after another, none in two."""
    table = torch.arange(examples * each, device=like.device).view(examples, each)
    return tuple(table[:, column].contiguous() for column in range(each))
