"""The positions of the texts of a micro-batch that runs without padding.

Shapes: ``T`` tokens of all texts, ``U`` texts, ``Z`` tokens of a group of texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from sciembed_train.batch import index_ranges, on_device, range_starts

MOST_PADDING = 0.2  # share of a padded group's slots that may hold no token


@dataclass(frozen=True)
class Layout:
    """The positions of the texts of a micro-batch, on the host and on its device.

    Args:
        sizes: tokens of each text, on the host.
        lengths: the same on the device.
        bounds: first token of each text, then the number of all tokens.
        begins: for each token, the first token of its text.
    """

    sizes: tuple[int, ...]
    lengths: Int[Tensor, " U"]
    bounds: Int[Tensor, " U+1"]
    begins: Int[Tensor, " T"]

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        device: torch.device,
        *more: NDArray[np.integer] | Int[Tensor, " _"],
    ) -> tuple[Layout, list[Int[Tensor, " _"]]]:
        """The layout of texts, and ``more`` integers of the host, moved in the same copy."""
        lengths = np.asarray(sizes, dtype=np.int64)
        starts = range_starts(lengths)
        bounds = np.append(starts, lengths.sum())
        tensors = on_device(device, lengths, bounds, np.repeat(starts, lengths), *more)
        return cls(tuple(lengths.tolist()), *tensors[:3]), tensors[3:]

    @property
    def starts(self) -> Int[Tensor, " U"]:
        """First token of each text."""
        return self.bounds[:-1]

    @cached_property
    def positions(self) -> Int[Tensor, " T"]:
        """Each token's position in its text, from 0."""
        return torch.arange(self.begins.shape[0], device=self.begins.device) - self.begins

    @property
    def last(self) -> Int[Tensor, " U"]:
        """Last token of each text."""
        return self.bounds[1:] - 1

    def end_tokens(self, count: int, last: bool = False) -> tuple[Layout, Int[Tensor, " Z"]]:
        """The layout of only each text's first tokens, and their positions in this one.

        Args:
            count: most tokens of a text that are kept.
            last: keep the last tokens instead.
        """
        sizes = np.array(self.sizes)
        end_sizes = np.minimum(sizes, count)
        starts = range_starts(sizes) + (sizes - end_sizes if last else 0)
        layout, (positions,) = Layout.of(
            end_sizes.tolist(), self.bounds.device, index_ranges(starts, end_sizes)
        )
        return layout, positions

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.sizes)

    @cached_property
    def equal_lengths(self) -> list[tuple[int, int]]:
        """Neighbouring texts of equal length, as (how many, length)."""
        return [(len(list(same)), length) for length, same in groupby(self.sizes)]

    @cached_property
    def groups(self) -> list[PaddedGroup]:
        """Neighbouring texts to pad together, each group with at most `MOST_PADDING` padding."""
        cuts = [0]
        tokens = longest = 0
        for number, size in enumerate(self.sizes):
            tokens, longest = tokens + size, max(longest, size)
            slots = (number + 1 - cuts[-1]) * longest
            if tokens < (1 - MOST_PADDING) * slots:
                cuts.append(number)
                tokens = longest = size
        cuts.append(len(self.sizes))
        sizes = np.array(self.sizes)
        shares = [sizes[start:end] for start, end in pairwise(cuts)]
        slots = [index_ranges(np.arange(len(s)) * s.max(), s) for s in shares]
        device_slots = on_device(self.bounds.device, *slots)
        return [
            PaddedGroup(len(share), int(share.max()), bool(share.min() < share.max()), token_slots)
            for share, token_slots in zip(shares, device_slots, strict=True)
        ]

    @cached_property
    def bounds32(self) -> tuple[Int[Tensor, " U+1"], Int[Tensor, " U+1"]]:
        """``bounds`` as the kernels take them: of the texts, and of one token of each text."""
        count = len(self.sizes) + 1
        alone = torch.arange(count, dtype=torch.int32, device=self.bounds.device)
        return self.bounds.to(torch.int32), alone


@dataclass(frozen=True)
class PaddedGroup:
    """Neighbouring texts in rows of one width.

    Args:
        texts: how many.
        longest: slots of a row.
        ragged: whether a row has a slot without a token.
        slots: where each token stands among the slots.
    """

    texts: int
    longest: int
    ragged: bool
    slots: Int[Tensor, " Z"]
