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
from sciembed_train.evaluation.options import EmbedSettings, Similarity
from sciembed_train.evaluation.retrieval import distance_rows, to_unit
from sciembed_train.evaluation.vectors import (
    Text,
    describe,
    embed_texts,
    open_encoder,
    similarity_of,
)

_RANKED_BY: dict[Similarity, str] = {
    "euclidean": "Euclidean distance of embeddings, float32",
    "cosine": "cosine of embeddings, as the Euclidean distance of unit vectors, float32",
}


@dataclass(frozen=True)
class Search:
    """Who asks, and among which texts.

    Args:
        texts: title and abstract of all ``P``; read once, in order.
        count: ``P``.
        queries: which of the texts ask.
        papers: which of the texts are candidates.
    """

    texts: Iterable[Text]
    count: int
    queries: Int64[np.ndarray, " Q"]
    papers: Int64[np.ndarray, " N"]


@runtime_checkable
class System(Protocol):
    """Something that ranks papers for queries."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        ...

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " N"]]:
        """Of each query in turn, the distance of every paper; smaller is nearer."""
        ...


@dataclass
class Model:
    """Papers ranked by the Euclidean distance or the cosine of their embeddings, in float32.

    Args:
        name: folder or hub name.
        settings: how it embeds.
        quiet: show no progress.
        similarity: what embeddings are compared by; None for what the folder records.

    Raises:
        UserError: the folder holds no model that can be used.
    """

    name: str
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    quiet: bool = False
    similarity: Similarity | None = None

    def __post_init__(self) -> None:
        found = self.similarity or similarity_of(self.name, self.settings)
        self.compared_by: Similarity = found
        self.encoder = open_encoder(self.name, self.settings)

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return {
            "similarity": self.compared_by,
            "ranked_by": _RANKED_BY[self.compared_by],
            "precision": self.settings.precision,
            **describe(self.encoder),
        }

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        progress = Progress(self.quiet)
        with progress.stage("embedding", search.count, "texts") as stage:
            vectors = embed_texts(
                self.encoder,
                search.texts,
                search.count,
                self.settings,
                lambda n: stage.reach(stage.done + n),
            )
        if self.compared_by == "cosine":
            to_unit(vectors)
        asked = vectors[search.queries]
        if not np.array_equal(search.papers, np.arange(len(vectors))):
            vectors = vectors[search.papers]
        with progress.stage("ranking", len(search.queries), "queries") as stage:
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
        """See `System`."""
        return {
            "ranked_by": "BM25 (lucene, k1 1.5, b 0.75) over title and abstract",
            "tokenization": r"lower case, \b\w\w+\b, English stop words out, no stemming",
            "library": f"bm25s {self.library.__version__}",
        }

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        words: Any = self.library.tokenize(
            [join(text) for text in search.texts], return_ids=False, show_progress=False
        )
        papers = search.papers
        if not any(words[p] for p in papers):  # bm25s cannot index a collection without a word
            yield from (np.zeros(len(papers), dtype=np.float32) for _ in search.queries)
            return
        index = self.library.BM25(k1=1.5, b=0.75, method="lucene")
        index.index([words[p] for p in papers], show_progress=False)
        for query in search.queries:
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
        """See `System`."""
        return {"ranked_by": "random numbers", "seed": self.seed}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " N"]]:
        """See `System`."""
        for query in search.queries.tolist():
            rng = np.random.default_rng([self.seed, query])
            yield rng.random(len(search.papers), dtype=np.float32)


def join(text: Text) -> str:
    """Title and abstract as one line of words, for BM25."""
    title, abstract = text
    body = abstract if isinstance(abstract, str | None) else " ".join(s for s in abstract if s)
    return f"{title or ''} {body or ''}".strip()
