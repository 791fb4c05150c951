"""Every paper that is no negative of a query, and why: all relations that the corpus knows.

`RelatedPapers` answers the same of the texts of a step; here one side is all papers. Citations of
held-out papers count: leaving a candidate out teaches nothing about it.

Shapes: ``B`` queries of a block, ``F`` pairs of a query and a paper, ``P`` papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import index_ranges
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.hard_negatives.positives import Positives
from sciembed_train.sampling.related_papers import RelatedPapers
from sciembed_train.text.normalise import paper_number, text_number

Ints = NDArray[np.int64]
PAIRS_AT_ONCE = 2**22  # of a query and a paper, where a query does not have more by itself


class Relation(IntEnum):
    """Why a paper is no negative of a query; of several reasons the first one counts."""

    ITSELF = 0
    POSITIVE = 1
    CITES = 2
    CITED_BY = 3
    COCITED = 4
    SAME_TITLE = 5
    SAME_TEXT = 6


@dataclass(frozen=True)
class PaperTexts:
    """What mining knows of the papers' texts.

    Args:
        readable: whether each has a title or an abstract ``[P]``.
        titles: a number for each normalised title ``[P]``, 0 for none.
        contents: a number for the letters and digits of title and abstract ``[P]``, 0 for none.
    """

    readable: NDArray[np.bool_]
    titles: Ints
    contents: Ints

    @classmethod
    def of(cls, corpus: Corpus, done: Callable[[int], None] | None = None) -> PaperTexts:
        """Read every paper once; ``done`` gets the number of papers read from time to time."""
        readable = np.zeros(corpus.n_papers, np.bool_)
        titles, contents = (np.zeros(corpus.n_papers, np.int64) for _ in range(2))
        for number, paper in enumerate(corpus.papers()):
            title, abstract = paper["title"], paper["abstract"]
            readable[number] = has_text(title, abstract)
            titles[number] = text_number(title)
            contents[number] = paper_number(title, abstract)
            if done is not None and (number % 1024 == 1023 or number + 1 == corpus.n_papers):
                done(number + 1)
        return cls(readable, titles, contents)


@dataclass(frozen=True)
class RelatedPairs:
    """Pairs of a query and a paper that is no negative of it, ascending and distinct.

    Args:
        query: place of the query in the block ``[F]``.
        paper: ``[F]``.
        relation: the reason, a `Relation` ``[F]``.
    """

    query: Ints
    paper: Ints
    relation: NDArray[np.int8]


class Relations:
    """What is related to the queries of mining.

    Args:
        related: the relations that a corpus knows, and which of them count.
        positives: always related to their query.
        texts: of the papers.
    """

    def __init__(self, related: RelatedPapers, positives: Positives, texts: PaperTexts) -> None:
        self.mask, self.papers, self.positives = related.mask, related.papers, positives
        self._cited = _Lists(related.cited, related.cited_starts)
        citing = np.repeat(np.arange(self.papers), np.diff(related.cited_starts))
        order = np.argsort(related.cited, kind="stable")
        self._citing = _Lists.by(related.cited[order], citing[order], self.papers)
        left, right = np.divmod(related.cocited, self.papers)
        pairs = np.concatenate([np.stack([left, right], 1), np.stack([right, left], 1)])
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        self._cocited = _Lists.by(pairs[:, 0], pairs[:, 1], self.papers)
        self._titles = _Equal(texts.titles) if self.mask.same_title else None
        self._contents = _Equal(texts.contents) if self.mask.same_text else None
        references = np.diff(related.cited_starts)
        reached = np.zeros(self.papers, np.int64)
        np.add.at(reached, related.cited, references[citing])
        self._reached = reached if self.mask.cocited else np.zeros_like(reached)

    def of(self, start: int, stop: int) -> RelatedPairs:
        """What is related to the queries ``start`` to ``stop - 1``."""
        parts = [
            self._of(start + low, start + high)
            for low, high in slices(
                self._reached[self.positives.queries[start:stop]], PAIRS_AT_ONCE
            )
        ]
        keys = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
        relation = np.concatenate([np.empty(0, np.int8), *(part[1] for part in parts)])
        query, paper = np.divmod(keys, self.papers)
        return RelatedPairs(query - start, paper, relation)

    def _of(self, start: int, stop: int) -> tuple[Ints, NDArray[np.int8]]:
        """Keys ``place * P + paper``, ascending, and the first reason of each."""
        queries = self.positives.queries[start:stop]
        everyone = np.arange(len(queries))
        starts = self.positives.starts
        of_positives = np.repeat(everyone, np.diff(starts[start : stop + 1]))
        papers_by_relation: dict[Relation, tuple[Ints, Ints]] = {
            Relation.ITSELF: (everyone, queries),
            Relation.POSITIVE: (of_positives, self.positives.papers[starts[start] : starts[stop]]),
        }
        if self.mask.cites:
            papers_by_relation[Relation.CITES] = self._cited.of(queries)
        if self.mask.cited_by:
            papers_by_relation[Relation.CITED_BY] = self._citing.of(queries)
        if self.mask.cocited:
            place, citing = self._citing.of(queries)
            step, others = self._cited.of(citing)
            keys, times = np.unique(place[step] * self.papers + others, return_counts=True)
            often = np.divmod(keys[times >= self.mask.cocited], self.papers)
            known_pairs = self._cocited.of(queries)
            papers_by_relation[Relation.COCITED] = (
                np.concatenate([often[0], known_pairs[0]]),
                np.concatenate([often[1], known_pairs[1]]),
            )
        if self._titles is not None:
            papers_by_relation[Relation.SAME_TITLE] = self._titles.of(queries)
        if self._contents is not None:
            papers_by_relation[Relation.SAME_TEXT] = self._contents.of(queries)
        keys = np.concatenate(
            [place * self.papers + paper for place, paper in papers_by_relation.values()]
        )
        relation = np.repeat(
            np.array([*papers_by_relation], np.int8),
            [len(place) for place, _ in papers_by_relation.values()],
        )
        # Reasons come in order, so the first of equal keys has the first reason.
        keys, first = np.unique(keys, return_index=True)
        return keys + start * self.papers, relation[first]


class TwoHopPapers:
    """Papers that are cited by a paper which a query cites: SPECTER's hard negatives.

    Held-out papers lead nowhere, so that nothing of their citations is given away.

    Args:
        cited: what training papers cite, paper by paper.
        starts: where the citations of each paper begin, and the end ``[P + 1]``.
    """

    def __init__(self, cited: Ints, starts: Ints) -> None:
        self._cited, self.papers = _Lists(cited, starts), len(starts) - 1
        counts = np.diff(starts)
        self._reached = np.zeros(self.papers, np.int64)
        np.add.at(self._reached, np.repeat(np.arange(self.papers), counts), counts[cited])

    def among(self, queries: Ints, papers: Ints) -> NDArray[np.bool_]:
        """Whether each paper ``[B, K]`` is two hops from its query ``[B]``; -1 never is."""
        near = np.zeros(papers.shape, np.bool_)
        for low, high in slices(self._reached[queries], PAIRS_AT_ONCE):
            place, first = self._cited.of(queries[low:high])
            step, second = self._cited.of(first)
            keys = np.unique(place[step] * self.papers + second)
            pair_keys = papers[low:high] + np.arange(high - low)[:, None] * self.papers
            near[low:high] = np.isin(pair_keys, keys) & (papers[low:high] >= 0)
        return near


def slices(weights: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of about ``most`` weight each, one item at least; they cover all."""
    group = (np.cumsum(weights) - weights) // most
    borders = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(weights)]
    for low, high in pairwise(borders):
        if low < high:
            yield low, high


class _Lists:
    """A list of papers for each paper: ``members[starts[p]:starts[p + 1]]``."""

    def __init__(self, members: NDArray[np.integer], starts: Ints) -> None:
        self.members, self.starts = members, starts

    @classmethod
    def by(cls, owner: NDArray[np.integer], members: NDArray[np.integer], count: int) -> _Lists:
        """Lists from the ascending owners of members."""
        sizes = np.bincount(owner, minlength=count)
        return cls(members, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def of(self, papers: Ints) -> tuple[Ints, Ints]:
        """All pairs of the place of a paper in ``papers`` and a member of its list."""
        first = self.starts[papers]
        counts = self.starts[papers + 1] - first
        members = np.asarray(self.members[index_ranges(first, counts)], np.int64)
        return np.repeat(np.arange(len(papers)), counts), members


class _Equal:
    """Papers that share a number other than 0."""

    def __init__(self, numbers: Ints) -> None:
        self.numbers = numbers
        self.order = np.argsort(numbers, kind="stable")
        self.ordered = numbers[self.order]

    def of(self, papers: Ints) -> tuple[Ints, Ints]:
        """All pairs of the place of a paper in ``papers`` and a paper with its number."""
        numbers = self.numbers[papers]
        low, high = (np.searchsorted(self.ordered, numbers, side) for side in ("left", "right"))
        counts = np.where(numbers == 0, 0, high - low)
        return np.repeat(np.arange(len(papers)), counts), self.order[index_ranges(low, counts)]
