"""Texts of a batch as token ids end to end, without padding, and where their sentences are.

Shapes: ``U`` distinct texts, ``T`` tokens of them all, ``S`` sentences of them all, ``K`` rows
asked for.

Lengths stay on the host wherever the ids are: the device is never synchronised to read how many
tokens a text has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

Moved = TypeVar("Moved", bound="Movable")  # beartype reads Self in decorated classes alone

HOST = {"host": True}  # metadata of a field that stays on the host


def on_device(
    device: torch.device, *arrays: NDArray[np.integer] | Int[Tensor, " _"]
) -> list[Int[Tensor, " _"]]:
    """Integers of the host on a device, brought there in one asynchronous copy."""
    whole = torch.from_numpy(np.concatenate([np.asarray(a, dtype=np.int64) for a in arrays]))
    if device.type == "cuda":
        whole = whole.pin_memory()
    # Apple's GPUs may read memory that the host has given away already.
    whole = whole.to(device, non_blocking=device.type not in ("cpu", "mps"))
    return list(whole.split([len(a) for a in arrays]))


def index_ranges(starts: NDArray[np.integer], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """``start, start + 1, ...`` of each range in turn, as many as its size."""
    sizes = np.asarray(sizes, dtype=np.int64)
    ends = np.cumsum(sizes)
    return np.arange(sizes.sum()) + np.repeat(starts - (ends - sizes), sizes)


def range_starts(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each range starts when all are put end to end."""
    sizes = np.asarray(sizes, dtype=np.int64)
    return np.cumsum(sizes) - sizes


class Movable:
    """A dataclass of tensors, and of others of its kind, that moves to a device whole."""

    def to(self: Moved, device: torch.device | str, non_blocking: bool = False) -> Moved:
        """The same on a device, except the fields that stay on the host."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self: Moved) -> Moved:
        """The same in page-locked memory."""
        return self._map(lambda value: value.pin_memory())

    def to_device(self: Moved, device: torch.device) -> Moved:
        """The same on a device; the copy to a CUDA device is asynchronous."""
        if device.type != "cuda":
            return self.to(device)
        return self.pin_memory().to(device, non_blocking=True)

    def _map(self: Moved, move: Callable[[Any], Any]) -> Moved:
        def mapped(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(mapped, value))
            return move(value) if isinstance(value, Tensor | Movable) else value

        names = [f.name for f in fields(cast(Any, self)) if not f.metadata.get("host")]
        values = {name: mapped(getattr(self, name)) for name in names}
        return replace(cast(Any, self), **values)


@dataclass(frozen=True)
class TokenRows(Movable):
    """Texts of unequal length, end to end, without padding.

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
        """The texts of these rows, in that order; a row may be repeated.

        Args:
            rows: on the host.
        """
        chosen, lengths = np.asarray(rows), self.lengths.numpy()
        (where,) = on_device(
            self.ids.device, index_ranges(range_starts(lengths)[chosen], lengths[chosen])
        )
        return TokenRows(self.ids.index_select(0, where), torch.from_numpy(lengths[chosen]))

    def filled(self, texts: int, length: int) -> TokenRows:
        """So many texts of one length; the ids are these texts' ids, repeated."""
        ids = self.ids.repeat(-(-texts * length // len(self.ids)))[: texts * length]
        return TokenRows(ids, torch.full((texts,), length))


@dataclass(frozen=True)
class Sentences(Movable):
    """Where the sentences of texts are, text after text; on the host.

    Args:
        starts: first token of each sentence, counted from its text's first token.
        lengths: tokens of each sentence, at least 1.
        counts: sentences of each text, at least 1; they sum to ``S``.
    """

    starts: Int[Tensor, " S"] = field(metadata=HOST)
    lengths: Int[Tensor, " S"] = field(metadata=HOST)
    counts: Int[Tensor, " U"] = field(metadata=HOST)

    def select(self, texts: NDArray[np.integer] | Int[Tensor, " K"]) -> Sentences:
        """The sentences of these texts, in that order.

        Args:
            texts: on the host.
        """
        chosen, counts = np.asarray(texts), self.counts.numpy()
        where = torch.from_numpy(index_ranges(range_starts(counts)[chosen], counts[chosen]))
        return Sentences(self.starts[where], self.lengths[where], torch.from_numpy(counts[chosen]))

    def positions(self, lengths: Int[Tensor, " U"]) -> Int[Tensor, " K"]:
        """Positions of every sentence's tokens in the ids of all texts end to end; on the host."""
        texts = np.repeat(range_starts(lengths.numpy()), self.counts.numpy())
        return torch.from_numpy(index_ranges(texts + self.starts.numpy(), self.lengths.numpy()))
