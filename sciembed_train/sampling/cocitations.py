"""Pairs of co-cited papers.

Aspire, Mysore, Cohan and Hope (2022), section 3: two papers cited together are similar, and
another pair's paper is not.

Shapes: ``N`` pairs of the step over all ranks, ``K`` keys of pairs, ``P`` papers of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import index_ranges
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling, TokenizationSpec
from sciembed_train.sampling.related_papers import keys_of_texts
from sciembed_train.sampling.step_pairs import Negatives, PairExamples, Pairs, PairSource

SOURCES = ("contexts", "cocitations", "citations", "fulltexts")


@dataclass(frozen=True)
class CocitationSampling(Sampling):
    """The corpus's co-cited pairs, each once an epoch, in a direction drawn anew each time.

    Args:
        negatives: ``derangement`` gives each pair the positive of another pair that is not the
            paper itself, its positive, or a paper known to be co-cited with it. ``randperm`` is a
            plain permutation, as published: on average one pair of a step gets its own positive as
            its negative and learns nothing, whatever the size of the step.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    negatives: Negatives = "derangement"

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> PairExamples:
        """The pairs of a corpus that was mined and tokenised for this encoder."""
        key = tokenization.tokenizer.key(tokenization.input_format)
        pairs = CocitedPairs(corpus, self.negatives, tokenization.seed)
        if not len(pairs.train):
            raise UserError(
                f"{corpus.folder} holds no training pair of co-cited papers; its report.json says "
                "why, with numbers."
            )
        facts = [key, self.negatives]
        return PairExamples(pairs, corpus.tokens(key), corpus, facts, tokenization, dev_limit)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str, cites: bool = False) -> None:
        """Needs papers, and a file that tells which of them are cited together."""
        super().check_raw(raw, format, cites)
        refuse_uncited(raw, cites)


def refuse_uncited(raw: Mapping[str, str], cites: bool = False) -> None:
    """Raise UserError unless a raw file says which papers are cited together."""
    if not cites and not set(raw) & set(SOURCES):
        raise UserError(
            "Nothing says which papers are cited together: give --data.contexts F or "
            "--data.cocitations F beside --data.papers; or --data.citations F or "
            "--data.fulltexts F with --data.cocitation_mining.cocitations_from references or "
            "fulltexts."
        )


class CocitedPairs(PairSource):
    """The co-cited pairs of a corpus: papers known to be co-cited are no negatives."""

    no_negative = "no negative: all others of the step are known to be cited with it"

    def __init__(self, corpus: Corpus, negatives: Negatives, seed: int) -> None:
        pairs = corpus.cocitations("train"), corpus.cocitations("dev")
        super().__init__(*pairs, negatives, seed)
        self.papers, self.first = corpus.n_papers, corpus.first_of_text()
        self.known = keys_of_texts(corpus.known_cocitations(), self.first)

    def excluded_negatives(self, pairs: Pairs) -> NDArray[np.bool_]:
        """See `excluded_by_cocitation`."""
        return excluded_by_cocitation(self.first[pairs], self.known, self.papers)

    def related(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each two papers are known to be co-cited, ``[K]``."""
        left, right = (self.first[side].astype(np.int64) for side in (left, right))
        keys = np.minimum(left, right) * self.papers + np.maximum(left, right)
        return contained(keys, self.known)

    def drawn(self, corpus: Corpus, lengths: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Papers with a text that no earlier one has."""
        return super().drawn(corpus, lengths) & corpus.distinct_papers()

    def title(self, corpus: Corpus, paper_ids: list[str], number: int) -> str:
        """The two papers, and how often they are cited together."""
        left_id, right_id = (paper_ids[paper] for paper in self.train[number].tolist())
        times = int(corpus.cocitation_counts("train")[number])
        return f"pair {number:,}: {left_id} and {right_id}, cited together {times:,} times"


def excluded_by_cocitation(
    pairs: Pairs, known: NDArray[np.int64], papers: int
) -> NDArray[np.bool_]:
    """Which pair's positive is no negative of which anchor, ``[N, N]``.

    Its own positive, itself, and every paper known to be co-cited with it.

    Args:
        pairs: ``[N, 2]`` anchors and positives of a step.
        known: sorted keys ``a * papers + b`` of the known co-cited pairs, ``a < b``.
        papers: ``P``.
    """
    anchors, positives = pairs[:, 0], pairs[:, 1]
    excluded = anchors[:, None] == positives[None, :]
    excluded |= positives[:, None] == positives[None, :]
    distinct, rows = np.unique(pairs, return_inverse=True)
    # The known partners with a higher number of every paper, end to end.
    starts = np.searchsorted(known, distinct * papers)
    counts = np.searchsorted(known, (distinct + 1) * papers) - starts
    partners = np.asarray(known[index_ranges(starts, counts)]) % papers
    in_step = np.isin(partners, distinct)
    lower = np.repeat(np.arange(len(distinct)), counts)[in_step]
    higher = np.searchsorted(distinct, partners[in_step])
    cocited = np.zeros((len(distinct), len(distinct)), np.bool_)
    cocited[lower, higher] = cocited[higher, lower] = True
    anchor_rows, positive_rows = rows.reshape(-1, 2).T
    return excluded | cocited[anchor_rows[:, None], positive_rows[None, :]]


def contained(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each key is among the known ones, ``[K]``; ``known`` ascends, may be mapped."""
    if not len(known):
        return np.zeros(len(keys), np.bool_)
    positions = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[positions]) == keys
