"""Hard negatives of papers, drawn from those that an encoder mined or from papers two hops away.

Shapes: ``N`` papers asked for, ``H`` negatives of each, ``K`` mined negatives of a query.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import MinedNegatives

HARD_STREAM = 9  # of the draws, beside the other streams

Ints = NDArray[np.int64]


def distinct_draws(
    hard: MinedNegatives | TwoHop,
    papers: Ints,
    draws: NDArray[np.float64],
    lengths: NDArray[np.integer],
) -> Ints:
    """`drawn_negatives` without repetitions and papers without a text: these are -1, ``[N, H]``."""
    drawn = drawn_negatives(hard, papers, draws)
    known = (drawn >= 0) & (lengths[drawn] > 0)
    drawn = np.where(known, drawn, -1)
    for column in range(1, drawn.shape[1]):
        seen = (drawn[:, :column] == drawn[:, column, None]).any(1)
        drawn[seen, column] = -1
    return drawn


class TwoHop:
    """Papers that are cited by what a paper cites: near it, and mostly not cited by it.

    Citations of held-out papers lead nowhere, so that nothing of them is given away.

    Args:
        corpus: with citations.
    """

    def __init__(self, corpus: Corpus) -> None:
        citations = np.asarray(corpus.citations_of_texts())
        trained = np.asarray(corpus.paper_splits())[citations[:, 0]] == SPLITS.index("train")
        citing, self.cited = citations[trained].T
        counts = np.bincount(citing, minlength=corpus.n_papers)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.first = corpus.first_of_text()

    def papers(self) -> Ints:
        """The papers that a draw may reach, ascending: those that training papers cite."""
        return np.unique(self.cited).astype(np.int64)

    def step(self, papers: Ints, draws: NDArray[np.float64]) -> Ints:
        """A random paper that each cites; -1 where it cites none or is itself -1."""
        known = self.first[np.maximum(papers, 0)]
        start = self.starts[known]
        count = self.starts[known + 1] - start
        usable = (papers >= 0) & (count > 0)
        place = np.where(usable, start + (draws * count).astype(np.int64), 0)
        if not len(self.cited):
            return np.full_like(papers, -1)
        return np.where(usable, self.cited[place], -1).astype(np.int64)


def drawn_negatives(
    hard: MinedNegatives | TwoHop, papers: Ints, draws: NDArray[np.float64]
) -> Ints:
    """Hard negatives of papers, ``[N, H]``; -1 where there is none.

    Mined ones are taken at consecutive ranks from a random one on, wrapping around.

    Args:
        hard: the source of the negatives.
        papers: ``[N]``.
        draws: numbers from 0 to below 1, ``[N, 2 H]``.
    """
    wanted = draws.shape[1] // 2
    if isinstance(hard, TwoHop):
        columns = [
            hard.step(hard.step(papers, draws[:, column]), draws[:, wanted + column])
            for column in range(wanted)
        ]
        return np.stack(columns, axis=1)
    mined = hard.of(papers)
    counts = (mined >= 0).sum(1)
    ranks = (draws[:, :1] * counts[:, None]).astype(np.int64) + np.arange(wanted)
    drawn = np.take_along_axis(mined, ranks % np.maximum(counts, 1)[:, None], axis=1)
    return np.where(np.arange(wanted) < counts[:, None], drawn, -1)
