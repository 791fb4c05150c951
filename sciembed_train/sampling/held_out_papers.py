"""Held-out examples of papers: which of them, and the batches that one rank encodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import DevTriplets, PaperBatch, TokenRows

PAPERS_PER_BATCH = 128  # of a validation batch; the encoder splits it further by tokens


@runtime_checkable
class ReadableTexts(Protocol):
    """The part of a token store that validation uses."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each text, without special tokens."""
        ...

    def rows(
        self, papers: NDArray[np.integer], max_length: int, /
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Flat ids with special tokens, and the number of ids of each text."""
        ...


class PaperBatches(Sequence[PaperBatch]):
    """Batches of the papers that one rank encodes for validation, longest first.

    Args:
        tokens: of the papers.
        papers: their numbers in ``tokens``, all that are held out.
        max_length: tokens of a text at most, special tokens included.
        rank: which share: every ``world_size``-th paper by length.
        world_size: number of ranks.
        formats: the format that reads each paper, as an index into `input_format.FORMATS`.
    """

    def __init__(
        self,
        tokens: ReadableTexts,
        papers: np.ndarray,
        max_length: int,
        rank: int,
        world_size: int,
        formats: np.ndarray | None = None,
    ) -> None:
        self.tokens, self.papers, self.max_length = tokens, papers, max_length
        self.formats = formats
        self.slots = np.argsort(-tokens.lengths[papers], kind="stable")[rank::world_size]

    def __len__(self) -> int:
        return -(-len(self.slots) // PAPERS_PER_BATCH)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        slots = self.slots[index * PAPERS_PER_BATCH : (index + 1) * PAPERS_PER_BATCH]
        ids, lengths = self.tokens.rows(self.papers[slots], self.max_length)
        rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
        formats = None if self.formats is None else torch.from_numpy(self.formats[slots])
        return PaperBatch(rows, torch.from_numpy(slots), formats=formats)


def by_slots(triplets: np.ndarray) -> tuple[np.ndarray, DevTriplets]:
    """The distinct papers of held-out triplets, and the triplets as positions among them."""
    papers, where = np.unique(triplets, return_inverse=True)
    slots = torch.from_numpy(where.reshape(triplets.shape).astype(np.int64))
    return papers, DevTriplets(slots[:, 0], slots[:, 1], slots[:, 2], len(papers))


def choose_dev(triplets: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` triplets, all of a query's or none, always the same ones."""
    if len(triplets) <= limit:
        return triplets
    queries, query, counts = np.unique(triplets[:, 0], return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(queries))
    fits = np.cumsum(counts[order]) <= limit
    fits[0] = True  # a single query may have more than the limit
    keep = np.zeros(len(queries), dtype=bool)
    keep[order[fits]] = True
    return triplets[keep[query.reshape(-1)]]
