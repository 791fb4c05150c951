"""A model that ranks papers by what they say of one facet, such as their method.

Shapes: ``S`` vectors of a paper, ``D`` width, ``K`` papers of a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.evaluation.distances import to_unit
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.sentence_embedding import (
    PaperSentences,
    Sentenced,
    Vectors,
    in_papers,
    sentenced,
)
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.progress import Progress


@dataclass(frozen=True)
class Places:
    """At which row of a paper's vectors its title and sentences stand.

    Args:
        title: its row; None where it has no token.
        sentences: the rows by the numbers of the sentences that have a token.
    """

    title: int | None
    sentences: dict[int, int]


@dataclass
class FacetModel(SentenceModel):
    """Papers ranked by the distances of their vectors for the facet that a query asks for.

    The vector of a paper for a facet is the mean over its title and its sentences of that facet,
    each the mean of its tokens' last states in the whole paper: over the title alone where no
    sentence is of the facet, and over all it has where its sentences have no labels or it has no
    title either. A paper without any text is farther than every other.

    The fields and errors are those of `SentenceModel`.
    """

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`.

        Raises:
            UserError: the benchmark asks for no facet.
        """
        sentences_of = search.facet_sentences
        if sentences_of is None:
            raise UserError(
                "--scorer facet compares the sentences of one facet, and this benchmark asks for "
                "none: it goes with --benchmark csfcube, whose papers have labelled sentences."
            )
        progress = Progress(self.quiet)
        places: list[Places] = []
        with progress.stage("embedding", search.count, "texts") as stage:
            papers = self._numbered(search, places)
            vectors = PaperSentences.write(self._encoded(papers, stage.advance), self.encoder.dim)
        facets: dict[tuple[int, tuple[int, ...] | None], Vectors] = {}

        def facet_vector(at: int, text: int) -> Vectors:
            chosen = sentences_of(at, text)
            numbers = None if chosen is None else tuple(chosen)
            if (text, numbers) not in facets:
                facets[text, numbers] = self._mean(vectors.of(text), places[text], numbers)
            return facets[text, numbers]

        self.notes = []
        with progress.stage("ranking", len(search.queries), "queries") as stage:
            for at, query in enumerate(search.queries.tolist()):
                pool = search.papers[search.pool(at)].tolist()
                query_row = torch.from_numpy(facet_vector(at, query))
                rows = torch.from_numpy(np.concatenate([facet_vector(at, text) for text in pool]))
                row = pairwise_euclidean(query_row, rows)[0].numpy()
                yield np.where(np.isnan(row), np.float32(np.inf), row)
                stage.advance(1)

    def _encoded(
        self, papers: Iterator[Sentenced], done: Callable[[int], Any]
    ) -> Iterator[list[Vectors]]:
        """The vectors of each paper's title and sentences, by way of the cache if there is one."""
        if self._cached is not None:
            return self._cached.sentences(papers, "titles_and_sentences", self.settings, done)
        return in_papers(self.encoder, papers, self.settings, done, with_title=True)

    def _numbered(self, search: Search, places: list[Places]) -> Iterator[Sentenced]:
        """The texts as sentences; ``places`` gets where the vectors of each will stand."""
        tokenizer, form = self.encoder.tokenizer, self.encoder.settings.input_format
        for text in search.texts:
            title, sentences = sentenced(text)
            composed, spans = form.compose_sentences(title, sentences, tokenizer.sep_token, True)
            (body,) = tokenizer.encode_sentences([composed], [spans])
            left_out = set(body.left_out)
            with_vector = [number for number in range(len(spans)) if number not in left_out]
            titles = len(spans) - len(sentences)
            row_of = {number - titles: row for row, number in enumerate(with_vector)}
            places.append(Places(row_of.pop(-1, None), row_of))
            yield title, sentences

    def _mean(
        self, rows: Vectors, places: Places, numbers: Sequence[int] | None
    ) -> Float32[np.ndarray, "1 D"]:
        """The vector of a paper for a facet; not a number where the paper has none at all."""
        if not len(rows):
            return np.full((1, self.encoder.dim), np.nan, np.float32)
        # A sentence beyond the model's greatest length has no vector.
        if numbers is not None:
            chosen = [] if places.title is None else [places.title]
            chosen += [places.sentences[n] for n in numbers if n in places.sentences]
            rows = rows[[row for row in chosen if row < len(rows)] or slice(None)]
        vector = rows.mean(0, keepdims=True)
        if self.scoring.similarity == "cosine":
            to_unit(vector)
        return vector
