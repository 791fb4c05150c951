"""A model that ranks papers by their sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.evaluation.distances import to_unit
from sciembed_train.evaluation.scoring import scoring_of
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.embedding import describe, open_encoder
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.inference.sentence_embedding import (
    PaperSentences,
    Sentenced,
    Vectors,
    alone,
    in_papers,
    nearest_pair,
    sentenced,
    transported,
)
from sciembed_train.progress import Progress


@dataclass
class SentenceModel:
    """Papers ranked by the distances of their sentences' vectors.

    Args:
        name: folder or hub name.
        settings: how it embeds.
        quiet: show no progress.
        requested: by what it ranks, where that is not what the folder records.
        cache: the folder where vectors are kept (`CachedEmbedding`); None keeps none.

    Raises:
        UserError: the folder holds no model that can be used, or `scoring_of` refuses.
        ValueError: its scorer is ``document``.
    """

    name: str
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    quiet: bool = False
    requested: ScoreSettings = field(default_factory=ScoreSettings)
    cache: str | Path | None = None
    by_sentence: ClassVar[bool] = True
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scoring = scoring_of(self.name, self.settings, self.requested)
        if self.scoring.scorer == "document":
            raise ValueError("documents are ranked by systems.Model")
        self.encoder = open_encoder(self.name, self.settings)
        self._cached = None if self.cache is None else CachedEmbedding(self.cache, self.encoder)

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        precision = {"precision": self.settings.precision}
        return self.scoring.describe() | precision | describe(self.encoder)

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        progress = Progress(self.quiet)
        query_sentences = list(search.query_sentences or [None] * len(search.queries))
        with progress.stage("embedding", search.count, "texts") as stage:
            papers = self._papers(search, query_sentences)
            parts = self._encoded(papers, stage.advance)
            vectors = PaperSentences.write(map(self._prepared, parts), self.encoder.dim)
        assert len(vectors.range_starts) == search.count + 1
        self.notes, cut = [], 0
        with progress.stage("ranking", len(search.queries), "queries") as stage:
            for at, query in enumerate(search.queries.tolist()):
                own, wanted = vectors.of(query), query_sentences[at]
                if wanted is not None:
                    left = [i for i in wanted if i < len(own)]
                    cut += not left
                    own = own[left] if left else own
                yield self._row(own, vectors, search.papers[search.pool(at)])
                stage.advance(1)
        if cut:
            self.notes.append(
                f"{cut} queries have none of the sentences to compare within the model's "
                f"{self.encoder.settings.max_length} tokens: all their sentences are compared."
            )

    def _encoded(
        self, papers: Iterator[Sentenced], done: Callable[[int], Any]
    ) -> Iterator[list[Vectors]]:
        """The vectors of each paper's sentences, by way of the cache where there is one."""
        by_itself = self.scoring.scorer == "sentences"
        if self._cached is not None:
            unit = "sentences_alone" if by_itself else "sentences_in_papers"
            return self._cached.sentences(papers, unit, self.settings, done)
        encode = alone if by_itself else in_papers
        return encode(self.encoder, papers, self.settings, done)

    def _papers(
        self, search: Search, query_sentences: list[Sequence[int] | None]
    ) -> Iterator[Sentenced]:
        """The texts as sentences; renumbers ``query_sentences`` where sentences have no token."""
        asked: dict[int, list[int]] = {}
        for at, query in enumerate(search.queries.tolist()):
            if query_sentences[at] is not None:
                asked.setdefault(query, []).append(at)
        for number, text in enumerate(search.texts):
            title, sentences = sentenced(text)
            if number in asked:
                if sentences and isinstance(text[1], str):
                    raise ValueError(
                        f"text {number} is one text, but single sentences of it are to be compared"
                    )
                tokens = self.encoder.tokenizer.encode(sentences)
                number_of = np.cumsum([bool(ids) for ids in tokens]) - 1
                for at in asked[number]:
                    wanted = query_sentences[at] or []
                    query_sentences[at] = [int(number_of[i]) for i in wanted if tokens[i]]
                sentences = [s for s, ids in zip(sentences, tokens, strict=True) if ids]
            yield title, sentences

    def _prepared(self, part: list[Vectors]) -> list[Vectors]:
        if self.scoring.similarity == "cosine":
            for vectors in part:
                to_unit(vectors)
        return part

    def _row(
        self,
        own: Float32[np.ndarray, "A D"],
        vectors: PaperSentences,
        pool: Int64[np.ndarray, " K"],
    ) -> Float32[np.ndarray, " K"]:
        device, settings = self.encoder.device, self.scoring.transport
        if settings is None:
            return nearest_pair(own, vectors, pool, device)
        return transported(own, vectors, pool, settings, device)
