"""A batch of several tasks: triplets and labelled texts, each text under the format that reads it.

Shapes: ``U`` texts of the share, ``B`` examples of a task, ``C`` its classes, ``K`` texts of an
example.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.batch.example_batch import (
    EXAMPLE_ROWS,
    PER_EXAMPLE,
    PER_TEXT,
    ExampleBatch,
    ExampleColumns,
)
from sciembed_train.batch.token_rows import HOST, TokenRows


@dataclass(frozen=True)
class TripletPart(ExampleColumns):
    """The triplets of one task in a step's share.

    Args:
        task: its name.
        anchor, positive, negative: rows of each triplet's texts.
    """

    task: str
    anchor: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    positive: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    negative: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True)
class LabelPart(ExampleColumns):
    """The labelled texts of one task in a step's share.

    Args:
        task: its name.
        text: row of each text.
        label: number of its class, or the number that a regression predicts, or of each class
            whether it is one of the text's.
    """

    task: str
    text: Int[Tensor, " B"] = field(metadata=EXAMPLE_ROWS)
    label: Int[Tensor, " B"] | Float[Tensor, " B"] | Float[Tensor, "B C"] = field(
        metadata=PER_EXAMPLE
    )

    def __len__(self) -> int:
        return len(self.text)


Part = TripletPart | LabelPart


@dataclass(frozen=True)
class TaskBatch(ExampleBatch):
    """One rank's share of one optimiser step of several tasks.

    Examples are numbered part after part.

    Args:
        rows: each distinct text of the share once for every format that reads it.
        formats: each row's format, as its position in `input_format.FORMATS`; on the host.
        parts: the examples, a part for each task.
        step: the optimiser step, counted from 0 over the whole run.
    """

    rows: TokenRows
    formats: Int[Tensor, " U"] = field(metadata={**PER_TEXT, **HOST})
    parts: tuple[Part, ...]
    step: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def members(self) -> Int[Tensor, "B K"]:
        """The rows of each example's texts; the text of a labelled example is repeated."""
        tables = [part.members() for part in self.parts]
        width = max(table.shape[1] for table in tables)
        return torch.cat([table.expand(-1, width) for table in tables])

    def select_columns(self, examples: slice) -> TaskBatch:
        """Consecutive examples; tasks without an example are left out."""
        parts: list[Part] = []
        first = 0
        for part in self.parts:
            part_examples = slice(max(examples.start - first, 0), max(examples.stop - first, 0))
            chosen = part.select_columns(part_examples)
            first += len(part)
            if len(chosen):
                parts.append(chosen)
        return replace(self, parts=tuple(parts))

    def renumbered(self, texts: Int[Tensor, " U"]) -> TaskBatch:
        """See `ExampleColumns.renumbered`."""
        return replace(self, parts=tuple(part.renumbered(texts) for part in self.parts))

    def split(self, max_tokens: int | None, apart: Container[str] = ()) -> list[TaskBatch]:
        """See `ExampleBatch.split`.

        Args:
            max_tokens: tokens of a micro-batch at most.
            apart: tasks whose examples come first and share no micro-batch with other tasks'.
        """
        if max_tokens is None or self.rows.tokens <= max_tokens:
            return [self]
        groups = [
            tuple(part for part in self.parts if (part.task in apart) is first and len(part))
            for first in (True, False)
        ]
        return [
            micro_batch
            for parts in groups
            if parts
            for micro_batch in replace(self, parts=parts).micro_batches(max_tokens)
        ]

    def largest(self, examples: int, length: int) -> TaskBatch:
        """See `ExampleBatch.largest`; every task keeps its share, one example at least."""
        parts: list[Part] = []
        formats: list[Tensor] = []
        texts = 0
        for part in self.parts:
            size = max(1, round(len(part) * examples / len(self)))
            rows = part.members()
            parts.append(part.distinct(size, texts))
            formats.append(self.formats[rows[:1, 0]].repeat(size * rows.shape[1]))
            texts += size * rows.shape[1]
        return replace(
            self,
            rows=self.rows.filled(texts, length),
            formats=torch.cat(formats),
            parts=tuple(parts),
        )
