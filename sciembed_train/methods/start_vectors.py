"""Vectors of the encoder that training started from, frozen.

Shapes: ``U`` texts, ``D`` width.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.loss import full_precision


class StartVectors:
    """Unit vectors of texts by a copy of an encoder, each text encoded once.

    The copy is made when the method is, before a checkpoint's weights are loaded: a continued run
    has the same start. It is no part of the method's weights. Vectors are kept in main memory by
    the texts' numbers, as the encoder gives them (fp32, or float64), and are not in checkpoints: a
    continued run encodes again what it meets.

    Args:
        encoder: what is copied.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.encoded = 0  # texts so far
        self._places: dict[int, int] = {}
        self._vectors: Tensor | None = None

    def __deepcopy__(self, memo: Any) -> StartVectors:
        return self  # frozen: a copy of the method may share it

    @torch.no_grad()
    def __call__(
        self, rows: TokenRows, texts: Int[Tensor, " U"], like: Tensor
    ) -> Float[Tensor, "U D"]:
        """The unit vectors of a batch's texts, on the device of ``like`` and in its precision.

        Args:
            rows: the texts' tokens.
            texts: their numbers, on the host; those below 0 are encoded and not kept.
            like: a vector of the trained encoder.
        """
        numbers = texts.tolist()
        missing = np.array([i for i, n in enumerate(numbers) if n not in self._places], np.int64)
        fresh = None
        if len(missing):
            self.encoder.to(device=like.device, dtype=like.dtype)
            # Chosen on the host, where the lengths are.
            vectors = self.encoder(rows.select(missing))
            fresh = unit(full_precision(vectors)).cpu()
            self.encoded += len(missing)
            self._keep([numbers[i] for i in missing.tolist()], fresh)
        if fresh is not None and len(missing) == len(numbers):
            return fresh.to(like)
        width = fresh.shape[1] if fresh is not None else self._table.shape[1]
        whole = torch.empty(len(numbers), width, dtype=self._table.dtype)
        kept = np.setdiff1d(np.arange(len(numbers)), missing)
        whole[kept] = self._table[[self._places[numbers[i]] for i in kept.tolist()]]
        if fresh is not None:
            whole[missing] = fresh
        return whole.to(like)

    @property
    def _table(self) -> Tensor:
        assert self._vectors is not None
        return self._vectors

    def _keep(self, numbers: list[int], vectors: Float[Tensor, "U D"]) -> None:
        """Keep the vectors of texts that have a number, in a table that grows by halves."""
        rows = [row for row, number in enumerate(numbers) if number >= 0]
        used = len(self._places)
        if self._vectors is None:
            self._vectors = vectors.new_empty(0, vectors.shape[1])
        if used + len(rows) > len(self._vectors):
            size = max(used + len(rows), len(self._vectors) * 3 // 2)
            grown = vectors.new_empty(size, vectors.shape[1])
            grown[:used] = self._vectors[:used]
            self._vectors = grown
        self._vectors[used : used + len(rows)] = vectors[rows]
        for place, row in enumerate(rows, start=used):
            self._places[numbers[row]] = place
