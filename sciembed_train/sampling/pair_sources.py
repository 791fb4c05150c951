"""Where citation pairs come from: citations, co-citations, and the parts of single papers.

Shapes: ``P`` papers of the corpus, ``n`` pairs of a source.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_files import SPLITS, Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.citation_texts import CitationTexts, TextKind

LEAST_HALF = 4  # tokens of each half of an abstract

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SourceWeights:
    """Share of the pairs that come from each source; 0 switches one off. They need not sum to 1.

    Args:
        citations: a paper and one that it cites.
        cocitations: two papers that are cited together (`CitationPairSampling.cocited`).
        title_abstract: title and abstract of a paper.
        abstract_halves: the two halves of an abstract.

    Raises:
        UserError: one is negative, or all are 0.
    """

    citations: float = 0.5
    cocitations: float = 0.25
    title_abstract: float = 0.15
    abstract_halves: float = 0.1

    def __post_init__(self) -> None:
        for name, weight in self.by_name().items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"data.sampling.weights.{name} must be 0 or more; got {weight}.")
        if not any(self.by_name().values()):
            raise UserError("data.sampling.weights are all 0: there is nothing to train on.")

    def by_name(self) -> dict[str, float]:
        """The weight of each source, those of weight 0 among them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Source:
    """The pairs of one source.

    Args:
        name: of the source.
        weight: its share of the training pairs.
        train: anchor and positive of each training pair, numbers of texts ``[n, 2]``.
        held_out: those of the held-out papers.
        symmetric: whether either of a pair may be the anchor.
        counts: how often the papers of each training pair are cited together, of co-citations.
    """

    name: str
    weight: float
    train: Ints
    held_out: Ints
    symmetric: bool = False
    counts: NDArray[np.int32] | None = None


def open_sources(
    corpus: Corpus, texts: CitationTexts, weights: SourceWeights, cocited: int
) -> tuple[list[Source], list[str]]:
    """The sources that have a weight and that the corpus has, and notes on those it lacks.

    Args:
        corpus: an opened corpus.
        texts: their tokens: texts without any are in no pair.
        weights: of the sources.
        cocited: how often two papers must be cited together.

    Raises:
        UserError: the corpus has none of them.
    """
    lengths = texts.lengths
    sources: list[Source] = []
    notes: list[str] = []
    for name, weight in weights.by_name().items():
        if not weight:
            continue
        source = _source(name, weight, corpus, texts, lengths, cocited)
        if isinstance(source, str):
            notes.append(f"The source {name} is left out: {source}")
        else:
            sources.append(source)
    if not sources:
        raise UserError(f"Nothing to train on in {corpus.folder}. {' '.join(notes)}")
    return sources, notes


def _source(
    name: str,
    weight: float,
    corpus: Corpus,
    texts: CitationTexts,
    lengths: NDArray[np.int32],
    cocited: int,
) -> Source | str:
    """A source, or why the corpus lacks it."""
    if name == "citations":
        if not (corpus.folder / "citations.npy").is_file() or not len(corpus.citations()):
            return "the corpus holds no citations (prepare it with --citations F)."
        pairs = np.asarray(corpus.citations_of_texts(), np.int64)
        pairs = pairs[(lengths[pairs] > 0).all(1) & (pairs[:, 0] != pairs[:, 1])]
        splits = np.asarray(corpus.paper_splits())[pairs[:, 0]]
        train, held_out = (pairs[splits == SPLITS.index(split)] for split in ("train", "dev"))
        return _or_none(Source(name, weight, train, held_out), "no training paper cites another.")
    if name == "cocitations":
        if not (corpus.folder / "cocitations").is_dir():
            return (
                "the corpus holds no co-cited papers (prepare it with --citations F "
                "--cocitations-from references, --contexts F or --cocitations F)."
            )
        train, counts = _often(corpus, "train", cocited, lengths)
        held_out, _ = _often(corpus, "dev", cocited, lengths)
        source = Source(name, weight, train, held_out, symmetric=True, counts=counts)
        return _or_none(source, f"no two papers are cited together {cocited} times.")
    if name == "title_abstract":
        kinds, least = (TextKind.TITLE, TextKind.ABSTRACT), 1
    else:
        kinds, least = (TextKind.FIRST_HALF, TextKind.SECOND_HALF), LEAST_HALF
    left, right = (texts.number(kind, np.arange(corpus.n_papers)) for kind in kinds)
    whole = (lengths[left] >= least) & (lengths[right] >= least) & corpus.distinct_papers()
    splits = np.asarray(corpus.paper_splits())
    train, held_out = (
        np.stack([left, right], axis=1)[whole & (splits == SPLITS.index(split))]
        for split in ("train", "dev")
    )
    return _or_none(Source(name, weight, train, held_out), "no paper has a title and an abstract.")


def _often(
    corpus: Corpus, split: Split, cocited: int, lengths: NDArray[np.int32]
) -> tuple[Ints, NDArray[np.int32]]:
    """Pairs of a split with a text, cited together ``cocited`` times or more, and how often."""
    pairs = np.asarray(corpus.cocitations(split), np.int64)
    counts = np.asarray(corpus.cocitation_counts(split))
    first = corpus.first_of_text()
    kept = (counts >= cocited) & (lengths[pairs] > 0).all(1)
    kept &= first[pairs[:, 0]] != first[pairs[:, 1]]
    return pairs[kept], counts[kept]


def _or_none(source: Source, reason: str) -> Source | str:
    return source if len(source.train) else reason
