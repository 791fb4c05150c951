"""False negatives by the citation graph: which candidates of a step are related to a query.
An in-batch negative is another pair's text, which may be of a paper that the query cites, is cited
by or is cited together with. All citations of the corpus count, held-out ones among them: leaving
a candidate out teaches nothing about it.

Shapes: ``P`` papers of the corpus, ``E`` citations, ``D`` distinct papers of a step, ``B`` queries,
``M`` candidates, ``F`` pairs of a query and a candidate, ``R`` pairs of papers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import index_ranges, range_starts
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.sampling.related_mask import RelatedMask

Ints = NDArray[np.int64]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without a pattern


@dataclass(frozen=True)
class Texts:
    """Texts of a step, as the mask knows them.

    Args:
        papers: the paper of each text ``[K]``.
        contents: a number for each text's tokens ``[K]``: equal texts have equal ones.
    """

    papers: Ints
    contents: Ints

    def __getitem__(self, rows: slice | Ints) -> Texts:
        return Texts(self.papers[rows], self.contents[rows])

    def __len__(self) -> int:
        return len(self.papers)

    def followed_by(self, others: Texts) -> Texts:
        """These texts, then the others."""
        return Texts(
            np.concatenate([self.papers, others.papers]),
            np.concatenate([self.contents, others.contents]),
        )


def keys_of_texts(keys: Ints, first: NDArray[np.integer]) -> Ints:
    """Keys ``a * P + b`` of pairs with ``a < b``, between the first papers of their texts.

    Distinct and ascending, without pairs of one text.
    """
    pairs = np.sort(first[np.stack(np.divmod(keys, len(first)), axis=1)].astype(np.int64), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs[:, 0] * len(first) + pairs[:, 1])


class RelatedPapers:
    """What a corpus knows of its papers' relations, for any step.

    Args:
        mask: which relations count.
        papers: ``P``.
        citations: citing and cited papers ``[E, 2]``, ascending; None where there are none.
        cocited: keys ``a * P + b`` of pairs with ``a < b`` that are known to be co-cited often
            enough, ascending: those that do not follow from ``citations``.
        titles: a number for each paper's normalised title ``[P]``, 0 for none.
        first: the first paper of each one's text ``[P]``, between which the relations are; None
            where all texts differ.
    """

    def __init__(
        self,
        mask: RelatedMask,
        papers: int,
        citations: NDArray[np.integer] | None,
        cocited: Ints,
        titles: NDArray[np.int64],
        first: NDArray[np.integer] | None = None,
    ) -> None:
        self.mask, self.papers, self.cocited, self.titles = mask, papers, cocited, titles
        self.first = first
        none = np.empty((0, 2), np.int32)
        citations = none if citations is None else citations
        self.cited = np.asarray(citations[:, 1])
        self.cited_starts = _row_starts(citations[:, 0], papers)
        self.citing = np.empty(0, np.int32)
        self.citing_starts = np.zeros(papers + 1, np.int64)
        if mask.cocited:
            self.citing = np.asarray(citations[np.argsort(self.cited, kind="stable"), 0])
            self.citing_starts = _row_starts(self.cited, papers)

    @classmethod
    def of(cls, corpus: Corpus, mask: RelatedMask, titles: NDArray[np.int64]) -> RelatedPapers:
        """The relations of a corpus, from the citations and co-citations that it has."""
        counts = corpus.info["counts"]
        has_citations = (corpus.folder / "citations.npy").is_file()
        cocited = np.empty(0, np.int64)
        if mask.cocited and (corpus.folder / "cocitations").is_dir():
            keys = []
            for split in SPLITS:
                pairs = np.asarray(corpus.cocitations(split), np.int64)
                often = np.asarray(corpus.cocitation_counts(split)) >= mask.cocited
                keys.append(pairs[often, 0] * counts["papers"] + pairs[often, 1])
            if mask.cocited == 1:  # also those that filters kept out
                keys.append(np.asarray(corpus.known_cocitations()))
            cocited = np.unique(np.concatenate(keys))
        citations = corpus.citations_of_texts() if has_citations else None
        first = corpus.first_of_text()
        if np.array_equal(first, np.arange(len(first))):
            return cls(mask, corpus.n_papers, citations, cocited, titles)
        cocited = keys_of_texts(cocited, first)
        return cls(mask, corpus.n_papers, citations, cocited, titles, first)

    def excluded(self, queries: Texts, positives: Texts, candidates: Texts, own: Ints) -> Ints:
        """Which candidates are no negatives of which query, ``[F, 2]``, ascending.

        Args:
            queries: ``B`` texts.
            positives: of each query.
            candidates: ``M`` texts.
            own: the candidate that is each query's positive ``[B]``, which is never among these.
        """
        if self.first is not None:
            queries, positives, candidates = (
                Texts(self.first[side.papers].astype(np.int64), side.contents)
                for side in (queries, positives, candidates)
            )
        pairs = [
            equal_pairs(queries.papers, candidates.papers),
            equal_pairs(positives.papers, candidates.papers),
            self._by_relation(queries.papers, candidates.papers),
        ]
        if self.mask.same_title:
            known = [np.asarray(self.titles[side.papers]) for side in (queries, candidates)]
            named = [np.flatnonzero(titles) for titles in known]
            equal = equal_pairs(known[0][named[0]], known[1][named[1]])
            pairs.append(np.stack([named[0][equal[:, 0]], named[1][equal[:, 1]]], axis=1))
        if self.mask.same_text:
            pairs.append(equal_pairs(queries.contents, candidates.contents))
            pairs.append(equal_pairs(positives.contents, candidates.contents))
        keys = np.concatenate([part[:, 0] * len(candidates) + part[:, 1] for part in pairs])
        keys = np.unique(keys)
        keys = keys[own[keys // len(candidates)] != keys % len(candidates)]
        return np.stack(np.divmod(keys, len(candidates)), axis=1)

    def _by_relation(self, queries: Ints, candidates: Ints) -> Ints:
        """Pairs of a query and a candidate whose papers are related, ``[F, 2]``."""
        distinct = np.unique(np.concatenate([queries, candidates]))
        left, right = self.related(distinct)
        rows = _Grouped(np.searchsorted(distinct, queries), len(distinct))
        columns = _Grouped(np.searchsorted(distinct, candidates), len(distinct))
        return rows.joined(columns, left, right)

    def related(self, papers: Ints) -> tuple[Ints, Ints]:
        """Places in ``papers`` of all pairs whose second paper is no negative of the first.

        Args:
            papers: distinct and ascending ``[D]``.
        """
        pairs: list[tuple[Ints, Ints]] = []
        if self.mask.cites or self.mask.cited_by:
            citing, cited = _partners(papers, self.cited_starts, self.cited)
            pairs += [(citing, cited)] if self.mask.cites else []
            pairs += [(cited, citing)] if self.mask.cited_by else []
        if self.mask.cocited:
            first, second = self._cocited_by(papers)
            pairs += [(first, second), (second, first)]
            starts = np.searchsorted(self.cocited, papers * self.papers)
            ends = np.searchsorted(self.cocited, (papers + 1) * self.papers)
            partners = np.asarray(self.cocited[index_ranges(starts, ends - starts)]) % self.papers
            first, second = _places(
                papers, np.repeat(np.arange(len(papers)), ends - starts), partners
            )
            pairs += [(first, second), (second, first)]
        none = np.empty(0, np.int64)
        left = np.concatenate([none, *(pair[0] for pair in pairs)])
        right = np.concatenate([none, *(pair[1] for pair in pairs)])
        return left, right

    def _cocited_by(self, papers: Ints) -> tuple[Ints, Ints]:
        """Places of all pairs of papers that enough papers of the corpus cite together."""
        starts = self.citing_starts[papers]
        counts = self.citing_starts[papers + 1] - starts
        citing = np.asarray(self.citing[index_ranges(starts, counts)], np.int64)
        # Sorted by citing paper, so that what each cites of the step is contiguous.
        keys = np.sort(citing * len(papers) + np.repeat(np.arange(len(papers)), counts))
        citing, place = np.divmod(keys, max(1, len(papers)))
        first = np.flatnonzero(np.diff(citing, prepend=-1))
        sizes = np.diff(first, append=len(citing))
        before = np.arange(len(citing)) - np.repeat(first, sizes)
        earlier = place[index_ranges(np.repeat(first, sizes), before)]
        later = np.repeat(place, before)
        together, times = np.unique(earlier * len(papers) + later, return_counts=True)
        together = together[times >= self.mask.cocited]
        left, right = np.divmod(together, max(1, len(papers)))
        return left, right


class _Grouped:
    """Rows by the group they are in, to be joined with other rows by pairs of groups.

    Args:
        groups: of each row.
        count: of all groups.
    """

    def __init__(self, groups: Ints, count: int) -> None:
        self.rows = np.argsort(groups, kind="stable")
        self.counts = np.bincount(groups, minlength=count)
        self.starts = range_starts(self.counts)

    def joined(self, other: _Grouped, left: Ints, right: Ints) -> Ints:
        """Every row of each left group with every row of its right group, ``[F, 2]``."""
        columns = other.counts[right]
        sizes = self.counts[left] * columns
        pair = np.repeat(np.arange(len(left)), sizes)
        row, column = np.divmod(
            index_ranges(np.zeros_like(sizes), sizes), np.maximum(columns[pair], 1)
        )
        return np.stack(
            [
                self.rows[self.starts[left[pair]] + row],
                other.rows[other.starts[right[pair]] + column],
            ],
            axis=1,
        )


def equal_pairs(left: Ints, right: Ints) -> Ints:
    """All pairs of a left and a right place with equal numbers, ``[F, 2]``."""
    shared = np.intersect1d(left, right)
    rows, columns = (np.flatnonzero(np.isin(side, shared)) for side in (left, right))
    groups = np.arange(len(shared))
    left_groups = _Grouped(np.searchsorted(shared, left[rows]), len(shared))
    right_groups = _Grouped(np.searchsorted(shared, right[columns]), len(shared))
    joined = left_groups.joined(right_groups, groups, groups)
    return np.stack([rows[joined[:, 0]], columns[joined[:, 1]]], axis=1)


def text_contents(ids: Ints, lengths: Ints) -> Ints:
    """A number of 64 bits for each text's tokens ``[K]``: equal texts have equal ones.

    Args:
        ids: of all texts end to end, one token at least each.
        lengths: tokens of each ``[K]``.
    """
    if not len(lengths):
        return np.empty(0, np.int64)
    position = index_ranges(np.zeros_like(lengths), lengths)
    powers = np.cumprod(np.full(int(lengths.max()), _FACTOR, np.uint64))
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * _FACTOR
    mixed = (mixed ^ (mixed >> np.uint64(29))) * powers[position]
    return np.add.reduceat(mixed, range_starts(lengths)).view(np.int64)


def _row_starts(papers: NDArray[np.integer], count: int) -> Ints:
    """Where the rows of each paper begin in ascending ``papers``, and the end, ``[P + 1]``."""
    return np.concatenate([[0], np.cumsum(np.bincount(papers, minlength=count))]).astype(np.int64)


def _partners(papers: Ints, starts: Ints, partners: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Places in ``papers`` of those that have partners among them, and of these partners."""
    first = starts[papers]
    counts = starts[papers + 1] - first
    others = np.asarray(partners[index_ranges(first, counts)], np.int64)
    return _places(papers, np.repeat(np.arange(len(papers)), counts), others)


def _places(papers: Ints, rows: Ints, others: Ints) -> tuple[Ints, Ints]:
    """The rows whose paper in ``others`` is among ``papers``, and its place there."""
    place = np.minimum(np.searchsorted(papers, others), max(0, len(papers) - 1))
    present = papers[place] == others if len(papers) else np.zeros(len(others), np.bool_)
    return rows[present], place[present]
