"""Typed batches: the distinct texts of a step once, and index arrays saying who meets whom.

Shapes: ``U`` distinct texts, ``T`` tokens of them all, ``B`` examples of this rank; of documents
``A`` anchors, ``P`` positives of each, ``K`` tokens that are hidden; ``S`` sentences of all texts,
``C`` classes of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Held = TypeVar("Held", bound="_Moved")  # beartype reads Self in decorated classes alone


class _Moved:
    """What is held in tensors, and in others of its kind, and can be moved whole."""

    def to(self: Held, device: torch.device | str, non_blocking: bool = False) -> Held:
        """The same on a device."""
        return self._each(lambda held: held.to(device, non_blocking=non_blocking))

    def pin_memory(self: Held) -> Held:
        """The same in page-locked memory."""
        return self._each(lambda held: held.pin_memory())

    def _each(self: Held, moved: Callable[[Any], Any]) -> Held:
        def each(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(each, value))
            return moved(value) if isinstance(value, Tensor | _Moved) else value

        values = {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}
        held = {k: each(v) for k, v in values.items() if isinstance(v, Tensor | _Moved | tuple)}
        return replace(cast(Any, self), **held)


@dataclass(frozen=True)
class TokenRows(_Moved):
    """Texts of unequal length, end to end; no padding anywhere.

    Args:
        ids: token ids of every text, special tokens included, one text after another.
        lengths: number of tokens of each text, each at least 1; they sum to ``T``.
    """

    ids: Int[Tensor, " T"]
    lengths: Int[Tensor, " U"]

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> TokenRows:
        """Join lists of ids."""
        lengths = torch.tensor([len(r) for r in rows], dtype=torch.int64)
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return cls(torch.from_numpy(flat), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Number of real tokens, ``T``."""
        return len(self.ids)

    def select(self, rows: Int[Tensor, " K"]) -> TokenRows:
        """The named texts, in that order; a text may be named twice."""
        lengths = self.lengths[rows]
        starts = (torch.cumsum(self.lengths, 0) - self.lengths)[rows]
        offsets = torch.cumsum(lengths, 0) - lengths
        total = int(lengths.sum())
        where = torch.arange(total, device=self.ids.device)
        where = where + torch.repeat_interleave(starts - offsets, lengths, output_size=total)
        return TokenRows(self.ids[where], lengths)


@dataclass(frozen=True)
class Sentences(_Moved):
    """Where the sentences of some texts stand, text after text.

    Args:
        starts: first token of each sentence, counted from its text's first token.
        lengths: tokens of each sentence, at least 1.
        counts: sentences of each text, at least 1; they sum to ``S``.
    """

    starts: Int[Tensor, " S"]
    lengths: Int[Tensor, " S"]
    counts: Int[Tensor, " U"]

    def select(self, texts: Int[Tensor, " K"]) -> Sentences:
        """Those of the named texts, in that order."""
        counts = self.counts[texts]
        firsts = (torch.cumsum(self.counts, 0) - self.counts)[texts]
        where = _within(counts) + torch.repeat_interleave(firsts, counts)
        return Sentences(self.starts[where], self.lengths[where], counts)

    def positions(self, lengths: Int[Tensor, " U"]) -> Int[Tensor, " K"]:
        """Where every sentence's tokens stand in the ids of all texts end to end.

        Args:
            lengths: tokens of each text, as `TokenRows.lengths`.
        """
        texts = torch.cumsum(lengths, 0) - lengths
        starts = self.starts + torch.repeat_interleave(texts, self.counts)
        return _within(self.lengths) + torch.repeat_interleave(starts, self.lengths)


def _within(sizes: Int[Tensor, " N"]) -> Int[Tensor, " K"]:
    """0, 1, ... of each run in turn."""
    starts = torch.cumsum(sizes, 0) - sizes
    total = int(sizes.sum())
    return torch.arange(total, device=sizes.device) - torch.repeat_interleave(starts, sizes)


@dataclass(frozen=True)
class TripletBatch(_Moved):
    """One rank's share of one optimiser step of triplets.

    Args:
        rows: each distinct paper of the share once.
        anchor, positive, negative: rows of each triplet's papers in ``rows``.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]
    step: int

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class PairBatch(_Moved):
    """One rank's share of one optimiser step of pairs, and whom they meet among all ranks' pairs.

    Args:
        rows: each distinct paper of the share once.
        anchor, positive: rows of each pair's papers in ``rows``.
        negative: the pair of the whole step, of all ranks, whose positive is each pair's negative;
            -1 where there is none.
        forbidden: pairs (row here, pair of the whole step) whose positive is no negative: the own
            one, and papers known to be like the anchor.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]
    forbidden: Int[Tensor, "F 2"]
    step: int

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class SentencePairBatch(_Moved):
    """One rank's share of one optimiser step of pairs that are compared sentence by sentence.

    Args:
        rows: each distinct paper of the share once.
        sentences: of these papers.
        anchor, positive: rows of each pair's papers in ``rows``.
        negative: the pair of the whole step, of all ranks, whose positive is each pair's negative;
            -1 where there is none.
        negative_count: sentences of that positive; 0 where there is none.
        aligned: the anchor's sentence and the positive's that say alike, counted in their texts;
            -1 where none is known.
        negative_aligned: the same of the pair whose positive is the negative.
        most: sentences of the paper of the whole step, of all ranks, that has most.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    sentences: Sentences
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]
    negative_count: Int[Tensor, " B"]
    aligned: Int[Tensor, "B 2"]
    negative_aligned: Int[Tensor, "B 2"]
    most: int
    step: int

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class TripletPart(_Moved):
    """The triplets of one task in a step's share.

    Args:
        task: its name.
        anchor, positive, negative: rows of each triplet's texts.
    """

    task: str
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class LabelPart(_Moved):
    """The labelled texts of one task in a step's share.

    Args:
        task: its name.
        text: row of each text.
        label: number of its class, or what a regression predicts, or of each class whether the
            text is of it.
    """

    task: str
    text: Int[Tensor, " B"]
    label: Int[Tensor, " B"] | Float[Tensor, " B"] | Float[Tensor, "B C"]

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class TaskBatch(_Moved):
    """One rank's share of one optimiser step of several tasks.

    Args:
        rows: each distinct text of the share once for every format that reads it.
        formats: the format that reads each row, as its place in `inputs.FORMATS`.
        parts: the examples, a part for each task.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    formats: Int[Tensor, " U"]
    parts: tuple[TripletPart | LabelPart, ...]
    step: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class PaperBatch(_Moved):
    """Some papers to encode, and where their vectors belong.

    Args:
        rows: the papers' texts.
        slots: position of each paper in the list that is being encoded.
        sentences: of the papers, where they are compared sentence by sentence.
        formats: the format that reads each row, as its place in `inputs.FORMATS`, where texts are
            read for tasks.
    """

    rows: TokenRows
    slots: Int[Tensor, " U"]
    sentences: Sentences | None = None
    formats: Int[Tensor, " U"] | None = None


@dataclass(frozen=True)
class DevTriplets:
    """Held-out triplets as positions in a list of their distinct papers, for validation.

    Args:
        anchor, positive, negative: positions of each triplet's papers.
        papers: length of that list; `PaperBatch.slots` count in it.
    """

    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]
    papers: int

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class TaskKind:
    """What a method must know of a task.

    Args:
        name: the task's.
        target: what is learned of a text: one ``class``, its ``classes``, a ``number``; or to
            stand nearer to one text than to another, in a ``triplet``.
        classes: how many there are; 0 of a task without classes.
        contrastive: whether the loss of its classes is mostly a contrastive one.
    """

    name: str
    target: Literal["class", "classes", "number", "triplet"]
    classes: int = 0
    contrastive: bool = False


@dataclass(frozen=True)
class DevTasks:
    """The tasks, and their held-out examples as positions in a list of distinct texts.

    Args:
        tasks: every task that is trained, also one without held-out examples.
        parts: the held-out examples, at most one part for each task; rows count in the list.
        texts: length of that list, in which a text stands once for every format that reads it;
            `PaperBatch.slots` count in it.
    """

    tasks: tuple[TaskKind, ...]
    parts: tuple[TripletPart | LabelPart, ...]
    texts: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class SpanBatch(_Moved):
    """Spans of some documents: one rank's share of a step, or held-out documents.

    Where the anchors that are compared are themselves masked (DeCLUTR as published), ``anchor``
    names the rows that hold the masked tokens. Otherwise it names clean rows, and the masked
    copies of the anchors are rows that neither ``anchor`` nor ``positive`` names.

    Args:
        rows: every span, special tokens included.
        anchor: row of each anchor, document after document.
        positive: rows of each anchor's positives; ``P`` may be 0.
        masked: positions in ``rows.ids`` of the tokens to be predicted, ascending; ``K`` may be 0.
        labels: the ids that stood there.
        documents: how many documents the spans are of.
        step: the optimiser step, counted from 0 over the whole run; -1 for held-out documents.
        first: number of the first document in the list of held-out documents; 0 in training.
    """

    rows: TokenRows
    anchor: Int[Tensor, " A"]
    positive: Int[Tensor, "A P"]
    masked: Int[Tensor, " K"]
    labels: Int[Tensor, " K"]
    documents: int
    step: int
    first: int = 0

    def __len__(self) -> int:
        return self.documents


@dataclass(frozen=True)
class DevSpans:
    """What validation must know of the held-out documents.

    Args:
        documents: how many there are; `SpanBatch.first` counts in them.
        anchors: anchors of each document.
        positives: positives of each anchor; 0 where nothing is compared.
    """

    documents: int
    anchors: int
    positives: int

    def __len__(self) -> int:
        return self.documents
