"""Vectors of records by what they are read for: the one thing that SciRepEval asks of a model.

Shapes: ``P`` records, ``D`` width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from sciembed_train.evaluation.systems import Model
from sciembed_train.inference.embedding import Text
from sciembed_train.inference.options import EmbedSettings, Similarity
from sciembed_train.inference.quantisation import CALIBRATION, Quantisation
from sciembed_train.progress import Progress

QUERY_FORMAT = "adhoc_query"  # of texts that ask and are no papers
Record = tuple[str, ...]  # the fields of a text, the title first; none empty but perhaps that


@runtime_checkable
class Embedder(Protocol):
    """Gives vectors; ``notes`` are what a reader of numbers made of them should know."""

    name: str
    similarity: Similarity
    notes: list[str]

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        ...

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """The vector of each record, by id, read for a format: a key of `input_format.FORMATS`."""
        ...


class PlainModel:
    """An encoder that reads a text in one way, whatever for."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name, self.notes = model.name, model.notes
        self.similarity: Similarity = model.scoring.similarity
        self._stored: Quantisation | None = None  # of the papers that were embedded last

    def describe(self) -> dict[str, Any]:
        """See `Embedder`."""
        return {**self.model.describe(), "formats": "one vector for every format"}

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """See `Embedder`."""
        return self._vectors(records, self.model.settings, format)

    def _vectors(
        self, records: Mapping[str, Record], settings: EmbedSettings, format: str
    ) -> Float32[np.ndarray, "P D"]:
        encoder = self.model.encoder
        separator = encoder.settings.input_format.separator
        between = encoder.tokenizer.sep_token if separator == "sep" else " "
        before = self.model.before_words if format == QUERY_FORMAT else None
        papers = (as_paper(record, between) for record in records.values())
        texts = (paper if before is None else (*paper, before) for paper in papers)
        with Progress(self.model.quiet).stage("embedding", len(records), "texts") as stage:
            vectors = self.model.vectors(texts, len(records), settings, stage.advance)
        if self.model.dtype is not None and len(vectors):
            # What asks is stored as the papers were that it is compared with.
            if format != QUERY_FORMAT or self._stored is None:
                sample = vectors[:CALIBRATION]
                self._stored = Quantisation.calibrated(self.model.dtype, sample)
            self.model.store(vectors, self._stored)
        return vectors


class FormatModel(PlainModel):
    """An encoder that reads a text by its format's adapter or code; opened ``by_format``."""

    def describe(self) -> dict[str, Any]:
        """See `Embedder`."""
        return {**self.model.describe(), "formats": "a vector for each format"}

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """See `Embedder`.

        Raises:
            UserError: the model has nothing for this format.
        """
        return self._vectors(records, replace(self.model.settings, format_token=format), format)


def model_vectors(model: Model) -> Embedder:
    """The vectors of a model that was opened ``by_format``.

    One that knows a single format, or whose settings name the one to use, reads all texts so.
    """
    encoder = model.encoder
    if len(encoder.format_reader.names) > 1 and model.settings.format is None:
        return FormatModel(model)
    return PlainModel(model)


@dataclass
class RandomVectors:
    """Normal random numbers, the same for the same text and format: what chance would score."""

    seed: int = 0
    width: int = 64
    name: str = "random"
    similarity: Similarity = "euclidean"
    notes: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """See `Embedder`."""
        return {"vectors": "normal random numbers", "seed": self.seed, "dim": self.width}

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """See `Embedder`."""
        vectors = np.empty((len(records), self.width), dtype=np.float32)
        for row, record in zip(vectors, records.values(), strict=True):
            text = "\0".join((format, *record))
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            row[:] = np.random.default_rng([self.seed, seed]).standard_normal(self.width)
        return vectors


def record_of(title: str | None, sentences: Iterable[str]) -> Record:
    """The record of a paper; its title is empty where it has none."""
    abstract = " ".join(sentences)
    return (title or "", abstract) if abstract else (title or "",)


def as_paper(record: Record, between: str) -> Text:
    """A record's title, and its other fields as they stand behind an abstract in one text."""
    return (record[0], between.join(record[1:])) if record else ("", "")
