"""The texts that citation pairs are of: whole papers, titles, abstracts and halves of abstracts.

A text has one number, ``kind * P + paper``: by it pairs name texts, batches recognise them, and
vectors of them are kept.

Shapes: ``P`` papers of the corpus, ``K`` texts asked for, ``T`` tokens of them all.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import index_ranges, range_starts
from sciembed_train.corpus.store.part_store import PartTokens
from sciembed_train.corpus.store.token_store import TokenStore

Ints = NDArray[np.int64]


class TextKind(IntEnum):
    """Which part of a paper a text is."""

    PAPER = 0
    TITLE = 1
    ABSTRACT = 2
    FIRST_HALF = 3
    SECOND_HALF = 4


class CitationTexts:
    """The tokens of papers and of their parts, by the numbers of the texts.

    Args:
        papers: tokens of the whole papers.
        parts: tokens of their titles and abstracts.
    """

    def __init__(self, papers: TokenStore, parts: PartTokens) -> None:
        self.papers, self.parts = papers, parts
        self.n_papers = len(papers)

    def number(self, kind: TextKind, papers: NDArray[np.integer]) -> Ints:
        """The numbers of texts of a kind."""
        return np.asarray(papers, np.int64) + kind * self.n_papers

    def paper(self, texts: NDArray[np.integer]) -> Ints:
        """The paper of each text."""
        return np.asarray(texts, np.int64) % self.n_papers

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each text, ``[5 P]``, uncut, no special tokens; 0 where there is none."""
        titles, abstracts = self.parts.lengths.reshape(-1, 2).T
        first = np.asarray(self.parts.middles)
        second = np.where(first > 0, abstracts - first, 0)
        whole = self.papers.lengths
        return np.concatenate([whole, titles, abstracts, first, second]).astype(np.int32)

    def rows(self, texts: NDArray[np.integer], max_length: int) -> tuple[Ints, Ints]:
        """Token ids of some texts with special tokens, cut to fit: as `TokenStore.rows`.

        Args:
            texts: numbers ``[K]``, in any order and repeated as wished.
            max_length: tokens of a row at most, special tokens included.

        Returns:
            The ids of every row end to end, ``[T]``, and the length of each, ``[K]``.
        """
        kind, paper = np.divmod(np.asarray(texts, np.int64), self.n_papers)
        whole = kind == TextKind.PAPER
        ids, lengths = self.papers.rows(paper[whole], max_length)
        if whole.all():
            return ids, lengths
        part_ids, part_lengths = self._part_rows(kind[~whole], paper[~whole], max_length)
        # Two lists end to end, whose rows go back to the order of ``texts``.
        row = np.empty(len(texts), np.int64)
        row[whole], row[~whole] = (
            np.arange(len(lengths)),
            np.arange(len(part_lengths)) + whole.sum(),
        )
        lengths = np.concatenate([lengths, part_lengths])
        where = index_ranges(range_starts(lengths)[row], lengths[row])
        return np.concatenate([ids, part_ids])[where], lengths[row]

    def _part_rows(self, kind: Ints, paper: Ints, max_length: int) -> tuple[Ints, Ints]:
        """Rows of titles, abstracts and halves."""
        special = len(self.parts.prefix) + len(self.parts.suffix)
        title = kind == TextKind.TITLE
        texts = 2 * paper + ~title
        sizes = self.parts.lengths[texts].astype(np.int64)
        middles = np.asarray(self.parts.middles[paper], np.int64)
        second = kind == TextKind.SECOND_HALF
        starts = np.where(second, middles, 0)
        ends = np.where(kind == TextKind.FIRST_HALF, middles, sizes)
        return self.parts.slices(texts, starts, np.minimum(ends - starts, max_length - special))
