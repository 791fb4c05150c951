"""Pairs of co-cited papers that are compared sentence by sentence.

Aspire, Mysore, Cohan and Hope (2022), sections 3.2 to 3.4: pairs and negatives are those of
`cocitations`; each paper comes with the places of its sentences, and a pair, where it is asked for,
with the two sentences that say alike.

Shapes: ``B`` pairs of this rank, ``N`` pairs of the step over all ranks or of the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import SentencePairBatch, Sentences, TokenRows
from sciembed_train.corpus.alignment.alignments import find_alignment, read_alignment
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.sentence_store import SentenceTokens
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling, TokenizationSpec
from sciembed_train.sampling.cocitations import (
    DEV_PAIRS,
    SOURCES,
    CocitedPairs,
    Negatives,
    flipped,
    refuse_uncited,
)
from sciembed_train.sampling.triplets import PaperBatches, by_slots, fingerprint

Align = Literal["none", "context", "abstract"]


@dataclass(frozen=True)
class SentencePairSampling(Sampling):
    """The corpus's co-cited pairs as `CocitationSampling` has them, with their sentences.

    Args:
        negatives: as for `CocitationSampling`.
        align: which sentences of a pair are said to be alike: those that citing sentences speak of
            (``context``, tsAspire), the two most alike (``abstract``, absAspire), or ``none``.
        aligned_by: the model folder that says so, of which `fit` makes the alignment where it is
            missing; or the name of one that `train align` made. Empty for the only one there is.

    Raises:
        UserError: a value is none of its choices, or ``aligned_by`` is given and nothing aligned.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    negatives: Negatives = "derangement"
    align: Align = "none"
    aligned_by: str = ""

    def __post_init__(self) -> None:
        # `show` makes it of a recipe's values as they stand, unseen by the parser of `fit`.
        for key, choices in (("negatives", Negatives), ("align", Align)):
            if (value := getattr(self, key)) not in (names := get_args(choices)):
                known = ", ".join(names)
                raise UserError(f"data.sampling.{key} is {value!r}; it is one of {known}.")
        if self.aligned_by and self.align == "none":
            raise UserError(
                f"data.sampling.aligned_by is {self.aligned_by!r}, and nothing is aligned: "
                "data.sampling.align is none. Set align to context or abstract, or leave "
                "aligned_by out."
            )

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> SentencePairExamples:
        """The pairs of a corpus that was mined, and tokenised with its sentences."""
        return SentencePairExamples(self, corpus, tokenization, dev_limit or DEV_PAIRS)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str) -> None:
        """Papers, and something that says which of them are cited together."""
        super().check_raw(raw, format)
        refuse_uncited(raw)


class SentencePairExamples:
    """Opened pairs: `Examples` for methods that compare papers sentence by sentence.

    Args:
        sampling: the settings.
        corpus: mined for co-citations.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs to validate on.
    """

    name = "pairs"

    def __init__(
        self,
        sampling: SentencePairSampling,
        corpus: Corpus,
        tokenization: TokenizationSpec,
        dev_limit: int,
    ) -> None:
        key = tokenization.tokenizer.key(tokenization.input_format)
        self.sampling, self.max_length = sampling, tokenization.max_length
        self.comparisons = CocitedPairs(corpus, sampling.negatives, tokenization.seed)
        self.pairs = self.comparisons.train
        self.train = len(self.pairs)
        self.tokens = corpus.sentenced_tokens(key)
        titles = int((self.tokens.sentence_counts[np.unique(self.pairs)] == 0).sum())
        notes = []
        if titles:
            notes.append(
                f"{titles:,} papers of the pairs have no abstract: their title is their one "
                "sentence."
            )
        self.aligned: NDArray[np.int16] | None = None
        facts = [key, "sentences", sampling.negatives, sampling.align]
        if sampling.align != "none":
            self.aligned, without = aligned_sentences(
                corpus, sampling.align, sampling.aligned_by, self.pairs, self.tokens
            )
            facts.append(hashlib.sha256(self.aligned.tobytes()).hexdigest())
            if without:
                notes.append(
                    f"{without:,} of {self.train:,} pairs have no citing sentence: of these the "
                    "two sentences that are most alike are taken."
                )
        self.notes: tuple[str, ...] = tuple(notes)
        self.dev_papers, self.dev = by_slots(self.comparisons.dev(self.tokens.lengths, dev_limit))
        self.fingerprint = fingerprint(corpus, facts, self.pairs)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> SentencePairBatch:
        """A rank's share of a step's pairs, each distinct paper once."""
        comparisons = self.comparisons.compare(indices, epoch, step)
        # Of all ranks: how many sentences the negatives have, and which of them are aligned.
        distinct, of = np.unique(comparisons.pairs, return_inverse=True)
        counts = self.tokens.sentences(distinct, self.max_length)[2][of.reshape(-1, 2)]
        aligned = np.full((len(indices), 2), -1, np.int64)
        if self.aligned is not None:
            turned = flipped(self.aligned[indices], indices, self.comparisons.seed, epoch)
            aligned = np.minimum(turned.astype(np.int64), counts - 1)
        negative = comparisons.negative[share]
        void = negative < 0
        papers, where = np.unique(comparisons.pairs[share], return_inverse=True)
        where = torch.from_numpy(where.reshape(-1, 2))
        ids, lengths = self.tokens.rows(papers, self.max_length)
        return SentencePairBatch(
            TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)),
            sentences_of(self.tokens, papers, self.max_length),
            where[:, 0].contiguous(),
            where[:, 1].contiguous(),
            torch.from_numpy(negative),
            torch.from_numpy(np.where(void, 0, counts[negative, 1])),
            torch.from_numpy(np.ascontiguousarray(aligned[share])),
            torch.from_numpy(np.where(void[:, None], -1, aligned[negative])),
            int(counts.max()),
            step,
        )

    def dev_items(self, rank: int, world_size: int) -> SentencePaperBatches:
        """This rank's papers of the held-out triplets, longest first, each paper once."""
        given = self.dev_papers, self.max_length, rank, world_size
        return SentencePaperBatches(self.tokens, *given)


class SentencePaperBatches(PaperBatches):
    """Batches of the papers that one rank encodes for validation, with their sentences."""

    tokens: SentenceTokens

    def __getitem__(self, index: Any) -> Any:
        batch = super().__getitem__(index)
        papers = self.papers[batch.slots.numpy()]
        return replace(batch, sentences=sentences_of(self.tokens, papers, self.max_length))


def sentences_of(tokens: SentenceTokens, papers: np.ndarray, max_length: int) -> Sentences:
    """Where the sentences of some papers stand in their rows."""
    return Sentences(*map(torch.from_numpy, tokens.sentences(papers, max_length)))


def aligned_sentences(
    corpus: Corpus, align: Align, aligned_by: str, pairs: np.ndarray, tokens: SentenceTokens
) -> tuple[NDArray[np.int16], int]:
    """Of each training pair the two sentences that say alike, ``[N, 2]``, as ``tokens`` has them.

    Returns:
        The places of the sentences, and the number of pairs without a citing sentence, of which
        with ``context`` the two most alike sentences are taken.

    Raises:
        UserError: the corpus holds no such alignment, or no pair has a citing sentence.
    """
    name = find_alignment(corpus, aligned_by)
    found = np.asarray(read_alignment(corpus, name, "train"))
    by_context, by_abstract = found[:, :2], found[:, 2:]
    chosen, without = by_abstract, 0
    if align == "context":
        there = (by_context >= 0).all(1, keepdims=True)
        without = int((~there).sum())
        if without == len(found):
            raise no_contexts(corpus)
        chosen = np.where(there, by_context, by_abstract)
    places = [tokens.numbered(pairs[:, side], chosen[:, side]) for side in (0, 1)]
    return np.stack(places, axis=1).astype(np.int16), without


def no_contexts(corpus: Corpus) -> UserError:
    """What a user is told whose pairs are to be aligned by contexts and have none."""
    pairs = len(corpus.cocitations("train"))
    return UserError(
        f"{corpus.folder} has no citing sentence of any of its {pairs:,} pairs, and "
        "data.sampling.align is context. Prepare it with --contexts F, or set align to abstract."
    )
