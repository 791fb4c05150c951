"""What every training batch shares: selection of examples, micro-batches, the largest batch.

A batch is a frozen dataclass that declares what each field is indexed by. From that follow
`ExampleBatch.select`, which keeps some examples and the texts they need, and
`ExampleBatch.largest`. A batch class of your own inherits all of it.

Shapes: ``U`` distinct texts, ``B`` examples of this rank, ``K`` texts of an example.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch.token_rows import Movable, TokenRows

Columns = TypeVar("Columns", bound="ExampleColumns")
Batch = TypeVar("Batch", bound="ExampleBatch")


# Metadata of a field: what it is indexed by.
EXAMPLE_ROWS = {"index": "row"}  # rows of each example's texts in the batch: [B] or [B, n]
PER_EXAMPLE = {"index": "example"}  # a value for each example: [B] or [B, n]
PER_TEXT = {"index": "text"}  # a value for each text: a tensor [U], or `Sentences`


class ExampleColumns(Movable):
    """Examples, in fields whose metadata is `EXAMPLE_ROWS` or `PER_EXAMPLE`."""

    def members(self) -> Int[Tensor, "B K"]:
        """The rows of each example's texts."""
        columns = [getattr(self, name) for name in self._names("row")]
        tables = [column.reshape(len(column), column.shape[1:].numel()) for column in columns]
        return torch.cat(tables, dim=1)

    def select_columns(self: Columns, examples: slice) -> Columns:
        """Consecutive examples, whose rows stay those of the whole."""
        names = [*self._names("row"), *self._names("example")]
        return replace(cast(Any, self), **{name: getattr(self, name)[examples] for name in names})

    def renumbered(self: Columns, texts: Int[Tensor, " U"]) -> Columns:
        """The same examples with each row's place among ``texts``, which are sorted."""
        rows = {
            name: torch.searchsorted(texts, getattr(self, name).contiguous())
            for name in self._names("row")
        }
        return replace(cast(Any, self), **rows)

    def distinct(self: Columns, examples: int, first_row: int = 0) -> Columns:
        """So many examples, no text of which is in another; other values are repeated.

        Args:
            examples: 1 or more.
            first_row: rows count from here.
        """
        rows = self.members()
        table = torch.arange(examples * rows.shape[1], device=rows.device).view(examples, -1)
        values: dict[str, Tensor] = {}
        start = 0
        for name in self._names("row"):
            shape = getattr(self, name).shape[1:]
            end = start + shape.numel()
            values[name] = table[:, start:end].reshape(examples, *shape) + first_row
            start = end
        repeated = torch.arange(examples, device=rows.device) % len(rows)
        values |= {name: getattr(self, name)[repeated] for name in self._names("example")}
        return replace(cast(Any, self), **values)

    def _names(self, index: str) -> list[str]:
        return [f.name for f in fields(cast(Any, self)) if f.metadata.get("index") == index]


class ExampleBatch(ExampleColumns):
    """One rank's share of one optimiser step; a subclass is a frozen dataclass.

    ``rows`` holds each distinct text of the share once, ``step`` is the optimiser step, counted
    from 0 over the whole run. The length of a batch is its number of examples.
    """

    rows: TokenRows
    step: int

    def __len__(self) -> int:
        return len(getattr(self, self._names("row")[0]))

    def select(self: Batch, examples: slice) -> Batch:
        """Consecutive examples as a batch of their own, with the texts that they need.

        Fields without an index stay unchanged.

        Args:
            examples: which, with a start and a stop.
        """
        chosen = self.select_columns(examples)
        texts = chosen.members().unique()
        rows, values = self.rows.select(texts), self._text_values(texts)
        return replace(cast(Any, chosen.renumbered(texts)), rows=rows, **values)

    def split(self: Batch, max_tokens: int | None) -> list[Batch]:
        """The batch in consecutive micro-batches of whole examples.

        A text of examples in several micro-batches is encoded in each of them.

        Args:
            max_tokens: tokens of a micro-batch's distinct texts at most; a single example may have
                more. None for no limit.
        """
        if max_tokens is None or self.rows.tokens <= max_tokens:
            return [self]
        return self.micro_batches(max_tokens)

    def micro_batches(self: Batch, max_tokens: int) -> list[Batch]:
        """As `split`, also where the batch is within the limit."""
        ranges = example_ranges(self.rows.lengths, self.members(), max_tokens)
        return [self.select(examples) for examples in ranges]

    def largest(self: Batch, examples: int, length: int) -> Batch:
        """A batch of this kind that takes the most memory; the ids are those of this batch.

        All its texts are distinct, which those of a real batch mostly are not.

        Args:
            examples: 1 or more.
            length: tokens of every text.
        """
        texts = examples * self.members().shape[1]
        text_values = self._text_values(torch.arange(texts) % len(self.rows))
        rows = self.rows.filled(texts, length)
        return replace(cast(Any, self.distinct(examples)), rows=rows, **text_values)

    def _text_values(self, texts: Int[Tensor, " K"]) -> dict[str, Any]:
        """Of each `PER_TEXT` field, the values of these texts."""
        values = {name: getattr(self, name) for name in self._names("text")}
        return {
            name: value[texts] if isinstance(value, Tensor) else value.select(texts)
            for name, value in values.items()
        }


def example_ranges(
    lengths: Int[Tensor, " U"], members: Int[Tensor, "B K"], max_tokens: int
) -> list[slice]:
    """Ranges of consecutive examples whose distinct texts have at most ``max_tokens`` together.

    Args:
        lengths: tokens of each text.
        members: the rows of each example's texts, of one example at least.
        max_tokens: a single example may have more.
    """
    tokens = lengths.tolist()
    ends: list[int] = []
    held, used = set[int](), 0
    for number, rows in enumerate(map(set, members.tolist())):
        more = sum(tokens[row] for row in rows - held)
        if held and used + more > max_tokens:
            ends.append(number)
            held, used = set(), 0
            more = sum(tokens[row] for row in rows)
        held |= rows
        used += more
    return [slice(*ends) for ends in zip([0, *ends], [*ends, len(members)], strict=True)]
