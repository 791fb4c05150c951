"""What is evaluated: a model, BM25, or chance; each gives a distance of every paper to a query.

Shapes: ``P`` texts, ``Q`` queries among them, ``N`` candidate papers among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from sciembed_train.corpus.progress import Progress
from sciembed_train.errors import UserError
from sciembed_train.evaluation.options import EmbedSettings
from sciembed_train.evaluation.retrieval import distance_rows
from sciembed_train.evaluation.vectors import (
    Text,
    describe,
    embed_texts,
    open_encoder,
)

BASELINES = ("bm25", "random")


@runtime_checkable
class System(Protocol):
    """Something that ranks papers for queries."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        ...

    def distances(
        self,
        texts: Iterable[Text],
        count: int,
        queries: Int64[np.ndarray, " Q"],
        papers: Int64[np.ndarray, " N"],
    ) -> Iterator[Float32[np.ndarray, " N"]]:
        """Of each query in turn, the distance of every paper; smaller is nearer.

        Args:
            texts: title and abstract of all ``P``; read once, in order.
            count: ``P``.
            queries: which of the texts ask.
            papers: which of the texts are candidates.
        """
        ...


@dataclass
class Model:
    """Papers ranked by the Euclidean distance of their embeddings, in float32.

    Args:
        name: folder or hub name.
        settings: how it embeds.
        quiet: show no progress.

    Raises:
        UserError: the folder holds no model that can be used.
    """

    name: str
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    quiet: bool = False

    def __post_init__(self) -> None:
        self.encoder = open_encoder(self.name, self.settings)

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        return {
            "ranked_by": "Euclidean distance of embeddings, float32",
            "precision": self.settings.precision,
            **describe(self.encoder),
        }

    def distances(
        self,
        texts: Iterable[Text],
        count: int,
        queries: Int64[np.ndarray, " Q"],
        papers: Int64[np.ndarray, " N"],
    ) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        progress = Progress(self.quiet)
        with progress.stage("embedding", count, "texts") as stage:
            vectors = embed_texts(
                self.encoder, texts, count, self.settings, lambda n: stage.reach(stage.done + n)
            )
        asked = vectors[queries]
        if not np.array_equal(papers, np.arange(len(vectors))):
            vectors = vectors[papers]
        with progress.stage("ranking", len(queries), "queries") as stage:
            for row in distance_rows(asked, vectors, self.encoder.device):
                yield row
                stage.reach(stage.done + 1)


@dataclass
class Bm25:
    """Okapi BM25 over title and abstract, by the library bm25s.

    Lucene's variant, k1 1.5, b 0.75; words of two or more letters or digits in lower case,
    English stop words taken out, no stemming; a word that the query holds twice counts twice.

    Raises:
        UserError: bm25s is not installed.
    """

    name: str = "bm25"

    def __post_init__(self) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise UserError(
                "--model bm25 needs the library bm25s: pip install 'sciembed_train[bm25]'."
            ) from error
        self.library = bm25s

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        return {
            "ranked_by": "BM25 (lucene, k1 1.5, b 0.75) over title and abstract",
            "tokenization": r"lower case, \b\w\w+\b, English stop words out, no stemming",
            "library": f"bm25s {self.library.__version__}",
        }

    def distances(
        self,
        texts: Iterable[Text],
        count: int,
        queries: Int64[np.ndarray, " Q"],
        papers: Int64[np.ndarray, " N"],
    ) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        words: Any = self.library.tokenize(
            [join(text) for text in texts], return_ids=False, show_progress=False
        )
        if not any(words[p] for p in papers):  # bm25s cannot index a collection without a word
            yield from (np.zeros(len(papers), dtype=np.float32) for _ in queries)
            return
        index = self.library.BM25(k1=1.5, b=0.75, method="lucene")
        index.index([words[p] for p in papers], show_progress=False)
        for query in queries:
            known = [word for word in words[query] if word in index.vocab_dict]
            if known:
                yield -index.get_scores(known).astype(np.float32)
            else:
                yield np.zeros(len(papers), dtype=np.float32)


@dataclass
class Chance:
    """Papers in random order."""

    seed: int = 0
    name: str = "random"

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        return {"ranked_by": "random numbers", "seed": self.seed}

    def distances(
        self,
        texts: Iterable[Text],
        count: int,
        queries: Int64[np.ndarray, " Q"],
        papers: Int64[np.ndarray, " N"],
    ) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        for query in queries.tolist():
            rng = np.random.default_rng([self.seed, query])
            yield rng.random(len(papers), dtype=np.float32)


def join(text: Text) -> str:
    """Title and abstract as one line of words, for BM25."""
    title, abstract = text
    body = abstract if isinstance(abstract, str | None) else " ".join(s for s in abstract if s)
    return f"{title or ''} {body or ''}".strip()
