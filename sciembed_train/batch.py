"""Typed batches: the distinct texts of a step once, and index arrays saying who meets whom.

Shapes: ``U`` distinct texts, ``T`` tokens of them all, ``B`` examples of this rank; of documents
``A`` anchors, ``P`` positives of each, ``K`` tokens that are hidden; ``S`` sentences of all texts,
``C`` classes of a task.

What a plan is made of, such as lengths, is on the host wherever the rest is: a device is never
waited for to learn how many tokens a text has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

Held = TypeVar("Held", bound="_Movable")  # beartype reads Self in decorated classes alone


HOST = {"host": True}  # of a field that stays on the host


def on_device(
    device: torch.device, *arrays: NDArray[np.integer] | Int[Tensor, " _"]
) -> list[Int[Tensor, " _"]]:
    """Integers of the host on a device, brought there in one copy that nobody waits for."""
    whole = torch.from_numpy(np.concatenate([np.asarray(a, dtype=np.int64) for a in arrays]))
    if device.type == "cuda":
        whole = whole.pin_memory()
    # Apple's GPUs may read memory that the host has given away already.
    whole = whole.to(device, non_blocking=device.type not in ("cpu", "mps"))
    return list(whole.split([len(a) for a in arrays]))


def index_ranges(starts: NDArray[np.integer], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """``start, start + 1, ...`` of each run in turn, as many as its size."""
    sizes = np.asarray(sizes, dtype=np.int64)
    ends = np.cumsum(sizes)
    return np.arange(sizes.sum()) + np.repeat(starts - (ends - sizes), sizes)


def range_starts(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each run starts when all stand end to end."""
    sizes = np.asarray(sizes, dtype=np.int64)
    return np.cumsum(sizes) - sizes


class _Movable:
    """What is held in tensors, and in others of its kind, and can be moved whole."""

    def to(self: Held, device: torch.device | str, non_blocking: bool = False) -> Held:
        """The same on a device, but for what stays on the host."""
        return self._each(lambda held: held.to(device, non_blocking=non_blocking))

    def pin_memory(self: Held) -> Held:
        """The same in page-locked memory."""
        return self._each(lambda held: held.pin_memory())

    def to_device(self: Held, device: torch.device) -> Held:
        """The same on a device, on its way there when this returns: nobody waits for it."""
        if device.type != "cuda":
            return self.to(device)
        return self.pin_memory().to(device, non_blocking=True)

    def _each(self: Held, moved: Callable[[Any], Any]) -> Held:
        def each(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(each, value))
            return moved(value) if isinstance(value, Tensor | _Movable) else value

        moving = [f.name for f in fields(cast(Any, self)) if not f.metadata.get("host")]
        values = {name: getattr(self, name) for name in moving}
        held = {k: each(v) for k, v in values.items() if isinstance(v, Tensor | _Movable | tuple)}
        return replace(cast(Any, self), **held)


@dataclass(frozen=True)
class TokenRows(_Movable):
    """Texts of unequal length, end to end; no padding anywhere.

    Args:
        ids: token ids of every text, special tokens included, one text after another.
        lengths: number of tokens of each text, each at least 1; they sum to ``T``. On the host.

    Raises:
        ValueError: the lengths are on a device.
    """

    ids: Int[Tensor, " T"]
    lengths: Int[Tensor, " U"] = field(metadata=HOST)

    def __post_init__(self) -> None:
        if self.lengths.device.type != "cpu":
            raise ValueError(f"lengths of texts stay on the host; got {self.lengths.device}")

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

    def select(self, rows: NDArray[np.integer] | Int[Tensor, " K"]) -> TokenRows:
        """The named texts, in that order; a text may be named twice.

        Args:
            rows: on the host.
        """
        chosen, lengths = np.asarray(rows), self.lengths.numpy()
        (where,) = on_device(
            self.ids.device, index_ranges(range_starts(lengths)[chosen], lengths[chosen])
        )
        return TokenRows(self.ids.index_select(0, where), torch.from_numpy(lengths[chosen]))


@dataclass(frozen=True)
class Sentences(_Movable):
    """Where the sentences of some texts stand, text after text; on the host.

    Args:
        starts: first token of each sentence, counted from its text's first token.
        lengths: tokens of each sentence, at least 1.
        counts: sentences of each text, at least 1; they sum to ``S``.
    """

    starts: Int[Tensor, " S"] = field(metadata=HOST)
    lengths: Int[Tensor, " S"] = field(metadata=HOST)
    counts: Int[Tensor, " U"] = field(metadata=HOST)

    def select(self, texts: NDArray[np.integer] | Int[Tensor, " K"]) -> Sentences:
        """Those of the named texts, in that order.

        Args:
            texts: on the host.
        """
        chosen, counts = np.asarray(texts), self.counts.numpy()
        where = torch.from_numpy(index_ranges(range_starts(counts)[chosen], counts[chosen]))
        return Sentences(self.starts[where], self.lengths[where], torch.from_numpy(counts[chosen]))

    def positions(self, lengths: Int[Tensor, " U"]) -> Int[Tensor, " K"]:
        """Where every sentence's tokens stand in the ids of all texts end to end; on the host.

        Args:
            lengths: tokens of each text, as `TokenRows.lengths`.
        """
        texts = np.repeat(range_starts(lengths.numpy()), self.counts.numpy())
        return torch.from_numpy(index_ranges(texts + self.starts.numpy(), self.lengths.numpy()))


@dataclass(frozen=True)
class TripletBatch(_Movable):
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
class PairBatch(_Movable):
    """One rank's share of one optimiser step of pairs, and whom they meet among all ranks' pairs.

    Args:
        rows: each distinct paper of the share once.
        anchor, positive: rows of each pair's papers in ``rows``.
        negative: the pair of the whole step, of all ranks, whose positive is each pair's negative;
            -1 where there is none.
        excluded: pairs (row here, pair of the whole step) whose positive is no negative: the own
            one, and papers known to be like the anchor.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    anchor: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    negative: Int[Tensor, " B"]
    excluded: Int[Tensor, "F 2"]
    step: int

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class SentencePairBatch(_Movable):
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
class TripletPart(_Movable):
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
class LabelPart(_Movable):
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
class TaskBatch(_Movable):
    """One rank's share of one optimiser step of several tasks.

    Args:
        rows: each distinct text of the share once for every format that reads it.
        formats: the format that reads each row, as its place in `inputs.FORMATS`; on the host.
        parts: the examples, a part for each task.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    formats: Int[Tensor, " U"] = field(metadata=HOST)
    parts: tuple[TripletPart | LabelPart, ...]
    step: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class PaperBatch(_Movable):
    """Some papers to encode, and where their vectors belong.

    Args:
        rows: the papers' texts.
        slots: position of each paper in the list that is being encoded.
        sentences: of the papers, where they are compared sentence by sentence.
        formats: the format that reads each row, as its place in `inputs.FORMATS`, where texts are
            read for tasks; on the host.
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
class SpanBatch(_Movable):
    """Spans of some documents: one rank's share of a step, or held-out documents.

    Where the anchors that are compared are themselves masked (DeCLUTR as published), ``anchor``
    names the rows that hold the masked tokens. Otherwise it names clean rows, and the masked
    copies of the anchors are rows that neither ``anchor`` nor ``positive`` names.

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
