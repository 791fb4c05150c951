"""Pairs of sentences that cite the same papers.

Aspire, Mysore, Cohan and Hope (2022): citing sentences of the same works paraphrase each other, and
train an encoder of single sentences (cosentbert). Pairs, directions and negatives are drawn as
those of co-cited papers (`cocitations`); a sentence that cites a paper of the anchor's is no
negative.

Shapes: ``N`` pairs of the step over all ranks, ``K`` sentences compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import index_ranges
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import CITING_SENTENCE_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling, TokenizationSpec
from sciembed_train.sampling.step_pairs import Negatives, PairExamples, Pairs, PairSource

SOURCES = ("contexts", "fulltexts")


@dataclass(frozen=True)
class CitingSentenceSampling(Sampling):
    """The corpus's sentence pairs, each once an epoch, in a direction drawn anew each time.

    Args:
        negatives: as for `CocitationSampling`; ``derangement`` avoids every sentence that cites
            one of the papers that the anchor cites.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)
    texts: ClassVar[str] = "sentences"

    negatives: Negatives = "derangement"

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> PairExamples:
        """The sentence pairs of a corpus that was mined and tokenised for this encoder."""
        key = tokenization.tokenizer.key(tokenization.input_format)
        pairs = CitingSentencePairs(corpus, self.negatives, tokenization.seed)
        tokens = corpus.tokens(key, CITING_SENTENCE_TOKENS)
        facts = [key, "citing sentences", self.negatives]
        return PairExamples(pairs, tokens, corpus, facts, tokenization, dev_limit)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str, cites: bool = False) -> None:
        """Needs papers, and citing sentences or full texts."""
        super().check_raw(raw, format, cites)
        if not set(raw) & set(SOURCES):
            raise UserError(
                "There are no citing sentences: give --data.contexts F beside --data.papers, or "
                "--data.fulltexts F with --data.cocitation_mining.cocitations_from fulltexts."
            )


class CitingSentencePairs(PairSource):
    """The sentence pairs of a corpus: sentences that cite a paper in common are no negatives."""

    of_papers = False
    no_negative = "no negative: all others of the step cite a paper in common with it"

    def __init__(self, corpus: Corpus, negatives: Negatives, seed: int) -> None:
        pairs = corpus.sentence_pairs("train"), corpus.sentence_pairs("dev")
        super().__init__(*pairs, negatives, seed)
        self.papers, self.offsets = corpus.sentence_papers()

    def excluded_negatives(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which anchor cites a paper that a pair's positive cites too, ``[N, N]``.

        A sentence cites a paper in common with itself and with its own positive.
        """
        distinct, rows = np.unique(pairs, return_inverse=True)
        sentence, paper = self.cited(distinct.astype(np.int64))
        ends = np.cumsum(np.unique(paper, return_counts=True)[1])
        related = np.eye(len(distinct), dtype=np.bool_)
        for citing in np.split(sentence[np.argsort(paper, kind="stable")], ends[:-1]):
            if len(citing) > 1:
                related[np.ix_(citing, citing)] = True
        anchors, positives = rows.reshape(-1, 2).T
        return related[anchors[:, None], positives]

    def related(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each two sentences cite a paper in common, ``[K]``."""
        span = int(self.papers.max(initial=0)) + 1
        left_keys, right_keys = (
            row * span + paper for row, paper in map(self.cited, (left, right))
        )
        related = np.zeros(len(left), np.bool_)
        related[left_keys[np.isin(left_keys, right_keys)] // span] = True
        return related

    def cited(self, sentences: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Position in ``sentences``, and paper, of everything that they cite, end to end."""
        starts = np.asarray(self.offsets[sentences])
        counts = np.asarray(self.offsets[sentences + 1]) - starts
        rows = np.repeat(np.arange(len(sentences)), counts)
        return rows, np.asarray(self.papers[index_ranges(starts, counts)], np.int64)

    def title(self, corpus: Corpus, paper_ids: list[str], number: int) -> str:
        """The number of the pair; its sentences name what they cite."""
        return f"pair {number:,} of citing sentences"

    def text_source(self, paper_ids: list[str], text: int) -> str:
        """The papers that a sentence cites."""
        cited = self.papers[self.offsets[text] : self.offsets[text + 1]].tolist()
        return f"cites {', '.join(paper_ids[paper] for paper in cited)}"
