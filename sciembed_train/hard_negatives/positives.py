"""The queries of mining, and the papers that training calls their positives.

Only training pairs: papers that a held-out paper cites or is co-cited with are no positives.

Shapes: ``P`` papers, ``Q`` queries, ``n`` positives of them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError

Ints = NDArray[np.int64]
COCITED = 2  # times, where the mask leaves co-citations out


@dataclass(frozen=True)
class Positives:
    """Queries and their positives.

    Args:
        queries: training papers with a positive, ascending ``[Q]``.
        starts: where the positives of each begin, and the end ``[Q + 1]``.
        papers: the positives, query by query, ascending ``[n]``.
    """

    queries: Ints
    starts: Ints
    papers: Ints

    @classmethod
    def of(cls, corpus: Corpus, readable: NDArray[np.bool_], cocited: int) -> Positives:
        """The training pairs of a corpus: citations, co-citations and triplets.

        Args:
            corpus: a corpus with at least one of these.
            readable: whether each paper has a text ``[P]``; others are neither.
            cocited: how often two papers must be cited together to be positives of one another; 0
                for `COCITED`.

        Raises:
            UserError: there is no pair.
        """
        pairs = [np.empty((0, 2), np.int64)]
        if (corpus.folder / "citations.npy").is_file():
            citations = np.asarray(corpus.citations_of_texts(), np.int64)
            training = np.asarray(corpus.paper_splits())[citations[:, 0]] == SPLITS.index("train")
            pairs.append(citations[training])
        if (corpus.folder / "cocitations").is_dir():
            together = np.asarray(corpus.cocitations("train"), np.int64)
            times = np.asarray(corpus.cocitation_counts("train"))
            together = corpus.first_of_text()[together[times >= (cocited or COCITED)]]
            pairs += [together, together[:, ::-1]]
        if (corpus.folder / "triplets" / "train.npy").is_file():
            pairs.append(np.asarray(corpus.triplets("train")[:, :2], np.int64))
        every = np.concatenate(pairs)
        every = every[readable[every].all(1) & (every[:, 0] != every[:, 1])]
        keys = np.unique(every[:, 0] * corpus.n_papers + every[:, 1])
        if not len(keys):
            raise UserError(
                f"{corpus.folder} holds no positives: no training paper cites another, is cited "
                "together with one or has a triplet. Prepare it with --citations F."
            )
        query, papers = np.divmod(keys, corpus.n_papers)
        queries, starts = np.unique(query, return_index=True)
        return cls(queries, np.append(starts, len(keys)).astype(np.int64), papers)
