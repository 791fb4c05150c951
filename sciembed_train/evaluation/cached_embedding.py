"""A model's vectors of texts and of papers' sentences by way of a cache on disk.

Shapes: ``P`` texts, ``D`` width.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from sciembed_train.encoder.text_interface import TextInterface
from sciembed_train.errors import UserError
from sciembed_train.evaluation.vector_cache import VectorCache, key_of
from sciembed_train.inference.embed_file import fingerprint
from sciembed_train.inference.embedding import (
    Prompted,
    Text,
    chunk_size,
    chunks,
    composed,
    encode,
    max_tokens_per_forward,
    prefetched,
)
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.output_file import write_json
from sciembed_train.inference.sentence_embedding import Sentenced, Vectors, alone, in_papers

# Raise it where the same model gives other vectors of the same text.
CACHE_VERSION = 1
READ = 1024  # papers whose sentences are read from disk at once

# A whole text has one vector; sentences are encoded each alone, or in their papers, and titles may
# be among these.
SentenceUnit = Literal["sentences_alone", "sentences_in_papers", "titles_and_sentences"]
Unit = Literal["text"] | SentenceUnit


class CachedEmbedding:
    """An encoder whose vectors are kept in folders below ``root``, and computed once.

    Vectors are as the encoder gives them. Their last bits may differ from those that would be
    computed now: they depend on the texts that were encoded together.

    Args:
        root: each model and manner of embedding has a folder of its own in it.
        encoder: its weights must not change afterwards.
    """

    def __init__(self, root: str | Path, encoder: TextInterface) -> None:
        self.root, self.encoder = Path(root), encoder
        self._model = model_identity(encoder)
        self._caches: dict[str, VectorCache] = {}

    def texts(
        self,
        texts: Iterable[Text | Prompted],
        count: int,
        settings: EmbedSettings,
        done: Callable[[int], Any] | None = None,
    ) -> Float32[np.ndarray, "P D"]:
        """As `embed_texts`; equal texts have bit-equal vectors.

        They are kept at their full width, so that a shorter one takes no pass of the encoder.

        Raises:
            UserError: the cache is damaged or cannot be written.
            NotFiniteError: an embedding is not finite.
            RunError: the disk is full.
        """
        size = chunk_size(max_tokens_per_forward(self.encoder, settings))

        def encoded(missing: Iterator[str]) -> Iterator[list[Vectors]]:
            for rows in prefetched(chunks(missing, size), self.encoder.rows):
                yield list(encode(self.encoder, rows, settings, done)[:, None])

        with self.encoder.full_width():
            cache = self._cache("text", settings)
            read = (composed(self.encoder, text) for text in texts)
            keys = cache.fill(read, key_of, encoded, "text", done)
        assert len(keys) == count
        return self.encoder.cut(torch.from_numpy(cache.gather(keys)[0])).numpy()

    def sentences(
        self,
        papers: Iterable[Sentenced],
        unit: SentenceUnit,
        settings: EmbedSettings,
        done: Callable[[int], Any] | None = None,
    ) -> Iterator[list[Vectors]]:
        """As `sentence_embedding.alone` or `sentence_embedding.in_papers`, by ``unit``.

        With ``titles_and_sentences`` the title of a paper is its first sentence.

        Raises:
            UserError: the cache is damaged or cannot be written.
            NotFiniteError: a vector is not finite.
            RunError: the disk is full.
        """

        def encoded(missing: Iterator[Sentenced]) -> Iterator[list[Vectors]]:
            if unit == "sentences_alone":
                return alone(self.encoder, missing, settings, done)
            with_title = unit == "titles_and_sentences"
            return in_papers(self.encoder, missing, settings, done, with_title=with_title)

        def key(paper: Sentenced) -> bytes:
            return key_of(json.dumps(paper))

        cache = self._cache(unit, settings)
        for part in chunks(cache.fill(papers, key, encoded, "a sentence of paper", done), READ):
            vectors, starts = cache.gather(part)
            yield np.split(vectors, starts[1:-1])

    def _cache(self, unit: Unit, settings: EmbedSettings) -> VectorCache:
        """The vectors of texts or sentences by what of the settings they depend on."""
        plan = self._model | {
            "unit": unit,
            "precision": settings.precision,
            "format": settings.format,
            **({} if self.encoder.truncate_dim is None else {"dim": self.encoder.truncate_dim}),
        }
        name = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
        if name not in self._caches:
            folder = self.root / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # For people: which folder is which model's.
                write_json(folder / "about.json", {"name": self.encoder.settings.backbone} | plan)
            except OSError as error:
                raise UserError(
                    f"Vectors cannot be kept in {folder}: {error.strerror or error}. Give a place "
                    "for them that can be written."
                ) from error
            self._caches[name] = VectorCache(folder, self.encoder.dim)
        return self._caches[name]


def model_identity(encoder: TextInterface) -> dict[str, Any]:
    """All that a model's vectors depend on but rounding, as plain values.

    The weights and the tokenizer are those in memory, wherever they came from: a base that adapters
    name, or a model that was not read from its folder. The code of a pooling of the user's own is
    among it. What changes speed alone may be, too.
    """
    settings = encoder.settings.as_dict()
    del settings["backbone"]  # a name: the same model may lie elsewhere
    with tempfile.TemporaryDirectory() as scratch:
        pooling = encoder.pooling.save(Path(scratch))  # the weights are hashed with the others
    code = inspect.getsource(sys.modules[type(encoder.pooling).__module__])
    return {
        "version": CACHE_VERSION,
        "weights": fingerprint(encoder),
        **({} if encoder.backend == "torch" else {"backend": encoder.backend}),
        "config": encoder.backbone_config(),
        "settings": settings,
        "pooling": pooling,
        "pooling_code": hashlib.sha256(code.encode()).hexdigest()[:16],
    }
