"""What is evaluated: a model, BM25, or chance; each gives a distance of every paper to a query.

Shapes: ``P`` texts, ``Q`` queries among them, ``N`` candidate papers among them, ``K`` papers of
one query's pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.text_interface import TextInterface
from sciembed_train.errors import UserError
from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.evaluation.distances import distance_rows, to_unit
from sciembed_train.evaluation.kept_tokens import KeptTokens
from sciembed_train.evaluation.scoring import Scoring, scoring_of
from sciembed_train.inference.embedding import (
    Prompted,
    Text,
    describe,
    embed_texts,
    open_encoder,
)
from sciembed_train.inference.options import Dtype, EmbedSettings, ScoreSettings, Similarity
from sciembed_train.inference.quantisation import CALIBRATION, Quantisation
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.progress import Progress
from sciembed_train.text.prompts import named_prompt, query_prompt

PART = 8192  # vectors that are projected at once


@dataclass(frozen=True)
class Search:
    """Queries, and the texts among which they search.

    Args:
        texts: title and abstract of all ``P``; read once, in order.
        count: ``P``.
        queries: the texts that are queries.
        papers: the texts that are candidates.
        pools: the papers that each query ranks, as positions in ``papers``; None where every query
            ranks all of them.
        query_sentences: the sentences of each query's abstract that are compared, counted among
            those that are not blank; None for all. Systems that compare whole texts ignore it.
        facet_sentences: of the facet that a query asks for, by the query's number, the sentences of
            a text that are about it, counted in the same way; may be empty. None for all of them,
            where nobody says what they are about. None itself where no facet is asked for.
        titles: of the papers that the texts are of, all ``P``, where the texts do not hold them.
        query_ids: of the queries, ``[Q]``; None where nobody outside is to know them.
        paper_ids: of the candidates, ``[N]``, likewise.
        query_papers: the ids of queries that are papers and have other ids, ``[Q]``; None for a
            query that is none.
        in_words: the texts that are the words of searches, and no papers.
        judged: of a query by its number, the judged candidates as positions in ``papers`` and
            their grades: where these stand among all is then what is made of the distances, and the
            others may be rounded (`distances.distance_rows`). None where all distances count.

    Raises:
        ValueError: a query is in its own pool, or there are more or fewer ids than queries or
            candidates.
    """

    texts: Iterable[Text]
    count: int
    queries: Int64[np.ndarray, " Q"]
    papers: Int64[np.ndarray, " N"]
    pools: Sequence[Int64[np.ndarray, " _"]] | None = None
    query_sentences: Sequence[Sequence[int] | None] | None = None
    facet_sentences: Callable[[int, int], Sequence[int] | None] | None = None
    titles: Sequence[str | None] | None = None
    query_ids: Sequence[str] | None = None
    paper_ids: Sequence[str] | None = None
    query_papers: Sequence[str | None] | None = None
    in_words: range = range(0)
    judged: Callable[[int], tuple[NDArray[np.int64], NDArray[np.integer]]] | None = None

    def __post_init__(self) -> None:
        for ids, texts in ((self.query_ids, self.queries), (self.paper_ids, self.papers)):
            if ids is not None and len(ids) != len(texts):
                raise ValueError(f"there are {len(ids)} ids of {len(texts)} texts")
        for query, pool in zip(self.queries, self.pools or [], strict=self.pools is not None):
            if (self.papers[pool] == query).any():
                raise ValueError(f"text {query} is a query and in its own pool")

    def pool(self, at: int) -> Int64[np.ndarray, " K"]:
        """The papers that a query ranks, as positions in ``papers``."""
        return np.arange(len(self.papers)) if self.pools is None else self.pools[at]

    @property
    def judged_papers(self) -> Callable[[int], Int64[np.ndarray, " _"]] | None:
        """The judged candidates of a query by its number, where that is all that counts."""
        judged = self.judged
        return None if judged is None else lambda at: judged(at)[0]

    def ids(self) -> tuple[Sequence[str], Sequence[str]]:
        """The ids of the queries and of the candidates.

        Raises:
            ValueError: the benchmark gave none.
        """
        if self.query_ids is None or self.paper_ids is None:
            raise ValueError("the benchmark gave no ids of its queries and candidates")
        return self.query_ids, self.paper_ids


@runtime_checkable
class System(Protocol):
    """A model or baseline that ranks papers for queries.

    One that is ``by_sentence`` compares sentences, and so uses ``Search.query_sentences``;
    ``notes`` are what a reader of its last distances should know.
    """

    name: str
    by_sentence: ClassVar[bool]
    notes: list[str]

    def describe(self) -> dict[str, Any]:
        """Settings for the results file."""
        ...

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """For each query in turn, the distance of every paper of its pool; smaller is nearer."""
        ...


@dataclass
class Model:
    """Papers ranked by the Euclidean distance or the cosine of their embeddings, in float32.

    Args:
        name: folder or hub name.
        settings: how it embeds.
        quiet: show no progress.
        similarity: what embeddings are compared by; None for what the folder records.
        by_format: each text comes with its format (`by_format`).
        opened: the encoder and by what it ranks, where they are not those of the folder.
        cache: the folder where vectors are kept (`CachedEmbedding`); None keeps none.
        tokens: keeps the tokens of texts that are embedded again; of the encoder that is opened.
        unprojected: keeps the vectors of that encoder as they come to its projection.
        dtype: what vectors are stored as before they are compared, by the ranges of the first
            `CALIBRATION` candidates where it has ranges; None for float32.
        query_prompt: the name of the model's prompt before the words of searches, or ``none``; by
            default that of queries, and where it has none that of its papers.

    Raises:
        UserError: the folder holds no model that can be used, or none that embeds whole texts; or
            the model has no such prompt.
    """

    name: str
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    quiet: bool = False
    similarity: Similarity | None = None
    by_format: bool = False
    opened: tuple[TextInterface, Scoring] | None = None
    cache: str | Path | None = None
    tokens: KeptTokens | None = None
    unprojected: CachedEmbedding | None = None
    dtype: Dtype | None = None
    query_prompt: str | None = None
    by_sentence: ClassVar[bool] = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.opened is not None:
            self.encoder, self.scoring = self.opened
        else:
            requested = ScoreSettings("document", self.similarity)
            self.scoring = scoring_of(self.name, self.settings, requested)
            self.encoder = open_encoder(self.name, self.settings, self.by_format)
        own, asked = self.encoder.settings, self.query_prompt
        self.before_words = (
            query_prompt(own.prompts, own.input_format.prompt)
            if asked is None
            else named_prompt(own.prompts, asked, own.backbone, "--query_prompt")
        )
        self._cached = None if self.cache is None else CachedEmbedding(self.cache, self.encoder)

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        how = {"precision": self.settings.precision}
        if self.before_words:
            how["query_prompt"] = self.before_words
        if self.dtype is not None:
            how["dtype"] = self.dtype
        return self.scoring.describe() | how | describe(self.encoder)

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        progress = Progress(self.quiet)
        with progress.stage("embedding", search.count, "texts") as stage:
            texts = (
                (*text, self.before_words) if at in search.in_words else text
                for at, text in enumerate(search.texts)
            )
            vectors = self.vectors(texts, search.count, self.settings, stage.advance)
        if self.dtype is not None:
            # As `embed` takes its first papers; words of searches have no part in it.
            sample = vectors[search.papers[:CALIBRATION]]
            self.store(vectors, Quantisation.calibrated(self.dtype, sample))
        if self.scoring.similarity == "cosine":
            to_unit(vectors)
        with progress.stage("ranking", len(search.queries), "queries") as stage:
            for row in self._rows(search, vectors):
                yield row
                stage.advance(1)

    def vectors(
        self,
        texts: Iterable[Text | Prompted],
        count: int,
        settings: EmbedSettings,
        done: Callable[[int], Any] | None = None,
    ) -> Float32[np.ndarray, "P D"]:
        """Embeddings of texts (`embed_texts`), by way of what is kept of them, if anything is."""
        if self.unprojected is not None:
            vectors = self.unprojected.texts(texts, count, settings, done)
            assert isinstance(self.encoder, Encoder)
            projected = np.empty((count, self.encoder.dim), np.float32)
            with torch.no_grad():
                for start in range(0, count, PART):
                    part = slice(start, start + PART)
                    own = torch.from_numpy(vectors[part]).to(self.encoder.device)
                    projected[part] = self.encoder.parts.projected(own).cpu().numpy()
            return projected
        if self.tokens is not None:
            return self.tokens.texts(texts, count, settings, done)
        if self._cached is None:
            return embed_texts(self.encoder, texts, count, settings, done)
        return self._cached.texts(texts, count, settings, done)

    def store(self, vectors: Float32[np.ndarray, "P D"], stored: Quantisation) -> None:
        """Make vectors, in place, what they are after they were stored and read again."""
        for start in range(0, len(vectors), CALIBRATION):
            part = slice(start, start + CALIBRATION)
            vectors[part] = stored.decode(stored.encode(vectors[part]))

    def _rows(
        self, search: Search, vectors: Float32[np.ndarray, "P D"]
    ) -> Iterator[Float32[np.ndarray, " K"]]:
        queries, device = vectors[search.queries], self.encoder.device
        if search.pools is None:
            if not np.array_equal(search.papers, np.arange(len(vectors))):
                vectors = vectors[search.papers]
            yield from distance_rows(queries, vectors, device, judged=search.judged_papers)
            return
        for query, pool in zip(queries, search.pools, strict=True):
            pool_rows = torch.as_tensor(vectors[search.papers[pool]], device=device)
            query_row = torch.as_tensor(query[None], device=device)
            yield pairwise_euclidean(query_row, pool_rows)[0].cpu().numpy()


@dataclass
class Bm25:
    """Okapi BM25 over title and abstract, by the library bm25s.

    Lucene's variant, k1 1.5, b 0.75; words of two or more letters or digits in lower case,
    without English stop words, no stemming; a word that the query holds twice counts twice.

    Raises:
        UserError: bm25s is not installed.
    """

    name: str = "bm25"
    by_sentence: ClassVar[bool] = False
    notes: list[str] = field(default_factory=list)

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

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        words: Any = self.library.tokenize(
            [join(text) for text in search.texts], return_ids=False, show_progress=False
        )
        papers = search.papers
        if not any(words[p] for p in papers):  # bm25s cannot index a collection without a word
            for at in range(len(search.queries)):
                yield np.zeros(len(search.pool(at)), dtype=np.float32)
            return
        index = self.library.BM25(k1=1.5, b=0.75, method="lucene")
        index.index([words[p] for p in papers], show_progress=False)
        for at, query in enumerate(search.queries):
            known = [word for word in words[query] if word in index.vocab_dict]
            scores = index.get_scores(known) if known else np.zeros(len(papers))
            yield -scores.astype(np.float32)[search.pool(at)]


@dataclass
class RandomOrder:
    """Papers in random order."""

    seed: int = 0
    name: str = "random"
    by_sentence: ClassVar[bool] = False
    notes: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return {"ranked_by": "random numbers", "seed": self.seed}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        for at, query in enumerate(search.queries.tolist()):
            rng = np.random.default_rng([self.seed, query])
            yield rng.random(len(search.papers), dtype=np.float32)[search.pool(at)]


def join(text: Text) -> str:
    """Title and abstract as one line of words, for BM25."""
    title, abstract = text
    body = abstract if isinstance(abstract, str | None) else " ".join(s for s in abstract if s)
    return f"{title or ''} {body or ''}".strip()
