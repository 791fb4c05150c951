"""Held-out examples: the texts that validation encodes, and how examples name them.

Shapes: ``U`` texts of a batch, ``B`` examples, ``F`` and ``G`` excluded pairs, ``K`` texts that are
ranked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch.task_batch import LabelPart, TripletPart
from sciembed_train.batch.token_rows import HOST, Movable, Sentences, TokenRows


@dataclass(frozen=True)
class PaperBatch(Movable):
    """Held-out papers to encode, and the positions of their vectors.

    Args:
        rows: the papers' texts.
        slots: position of each paper in the list that is being encoded.
        sentences: of the papers, where they are compared sentence by sentence.
        formats: the format that reads each row, as its position in `input_format.FORMATS`, where
            texts are read for tasks; on the host.
    """

    rows: TokenRows
    slots: Int[Tensor, " U"]
    sentences: Sentences | None = None
    formats: Int[Tensor, " U"] | None = field(default=None, metadata=HOST)


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
class DevPairSource:
    """Held-out pairs of one source, as positions in a list of the texts of all sources.

    Args:
        name: of the source.
        weight: of the source in training; those of all sources sum to 1.
        anchor, positive: positions of each pair's texts.
        excluded: pairs (pair, other pair) of which the other's positive is no negative of the
            anchor; never the pair itself.
        excluded_back: pairs of which the other's anchor is no negative of the positive.
        pool: positions of the texts that are ranked for an anchor.
    """

    name: str
    weight: float
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    excluded: Int[Tensor, "F 2"]
    excluded_back: Int[Tensor, "G 2"]
    pool: Int[Tensor, " K"]

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class DevPairs:
    """Held-out pairs of several sources.

    Args:
        sources: those that have held-out pairs.
        texts: length of the list of their distinct texts; `PaperBatch.slots` count in it.
    """

    sources: tuple[DevPairSource, ...]
    texts: int

    def __len__(self) -> int:
        return sum(map(len, self.sources))


@dataclass(frozen=True)
class TaskKind:
    """What a method needs to know about a task.

    Args:
        name: the task's.
        target: what is learned: one ``class`` of a text, its ``classes``, a ``number``; or, in a
            ``triplet``, to be nearer to one text than to another.
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
        texts: length of that list, which holds a text once for every format that reads it;
            `PaperBatch.slots` count in it.
    """

    tasks: tuple[TaskKind, ...]
    parts: tuple[TripletPart | LabelPart, ...]
    texts: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class DevSpans:
    """What validation needs to know about the held-out documents.

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
