"""Embeddings of texts that are embedded again and again by an encoder that changes meanwhile.

Shapes: ``P`` texts, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.text_interface import TextInterface
from sciembed_train.inference.embedding import (
    Prompted,
    Text,
    chunk_size,
    embed_rows,
    max_tokens_per_forward,
    token_chunks,
)
from sciembed_train.inference.options import EmbedSettings


class KeptTokens:
    """Texts that are read and tokenised once, and embedded in every round.

    A round embeds the same lists of texts in the same order; after the first one the texts that
    are given are not read.

    Args:
        encoder: whose weights may change; its tokenizer and input format must not.
    """

    def __init__(self, encoder: TextInterface) -> None:
        self.encoder = encoder
        self._lists: list[list[TokenRows]] = []
        self._next = 0

    def start_round(self) -> None:
        """Begin with the first list of texts again."""
        self._next = 0

    def texts(
        self,
        texts: Iterable[Text | Prompted],
        count: int,
        settings: EmbedSettings,
        done: Callable[[int], Any] | None = None,
    ) -> Float32[np.ndarray, "P D"]:
        """As `embed_texts`.

        Raises:
            NotFiniteError: an embedding is not finite.
        """
        if self._next == len(self._lists):
            size = chunk_size(max_tokens_per_forward(self.encoder, settings))
            self._lists.append(list(token_chunks(self.encoder, texts, size)))
        rows = self._lists[self._next]
        self._next += 1
        return embed_rows(self.encoder, rows, count, settings, done)
