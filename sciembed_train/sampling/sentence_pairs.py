"""Pairs of co-cited papers that are compared sentence by sentence.

Aspire, Mysore, Cohan and Hope (2022), sections 3.2 to 3.4: pairs and negatives are those of
`cocitations`; each paper comes with the positions of its sentences, and a pair, where it is asked
for, with its two aligned sentences.

Shapes: ``B`` pairs of this rank, ``N`` pairs of the step over all ranks or of the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import SentencePairBatch, Sentences, TokenRows
from sciembed_train.corpus.alignment import find_alignment, read_alignment
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.sentence_store import SentenceIndexedTokens
from sciembed_train.corpus.store.token_kinds import SENTENCE_INDEXED_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Sampling,
    TextDescription,
    TokenizationSpec,
    check_choices,
)
from sciembed_train.sampling.cocitations import SOURCES, CocitedPairs, refuse_uncited
from sciembed_train.sampling.held_out_papers import PaperBatches
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.step_pairs import NEGATIVE_ROLE, Negatives, PairExamples, flipped

Align = Literal["none", "context", "abstract"]


@dataclass(frozen=True)
class SentencePairSampling(Sampling):
    """The corpus's co-cited pairs as `CocitationSampling` has them, with their sentences.

    Args:
        negatives: as for `CocitationSampling`.
        align: which two sentences of a pair are aligned: those most similar to a citing sentence
            (``context``, tsAspire), those most similar to each other (``abstract``, absAspire), or
            ``none``.
        aligned_by: folder of the model that aligns them, by which `fit` makes the alignment where
            it is missing; or the name of one that `train align` made. Empty for the only one in
            the corpus.

    Raises:
        UserError: a value is none of its choices, or ``aligned_by`` is given and nothing aligned.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    negatives: Negatives = "derangement"
    align: Align = "none"
    aligned_by: str = ""

    def __post_init__(self) -> None:
        check_choices(self, negatives=Negatives, align=Align)
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
        return SentencePairExamples(self, corpus, tokenization, dev_limit)

    def alignment_model(self, corpus: Corpus) -> str:
        """``aligned_by``; UserError if contexts are asked for, and the corpus has none."""
        contexts = corpus.info["counts"].get("contexts")
        if self.aligned_by and self.align == "context" and not contexts:
            raise no_contexts(corpus)  # before thousands of sentences are encoded
        return self.aligned_by

    def with_alignment(self, name: str) -> SentencePairSampling:
        """The sampling that reads this alignment."""
        return replace(self, aligned_by=name)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str, cites: bool = False) -> None:
        """Needs papers, and a file that tells which of them are cited together."""
        super().check_raw(raw, format, cites)
        refuse_uncited(raw, cites)


class SentencePairExamples(PairExamples):
    """Opened pairs, for methods that compare papers sentence by sentence.

    Args:
        sampling: the settings.
        corpus: what they are of.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs to validate on; None for 2,000.
    """

    tokens: SentenceIndexedTokens

    def __init__(
        self,
        sampling: SentencePairSampling,
        corpus: Corpus,
        tokenization: TokenizationSpec,
        dev_limit: int | None,
    ) -> None:
        key = tokenization.tokenizer.key(tokenization.input_format)
        source = CocitedPairs(corpus, sampling.negatives, tokenization.seed)
        tokens = corpus.tokens(key, SENTENCE_INDEXED_TOKENS)
        titles = int((tokens.sentence_counts[np.unique(source.train)] == 0).sum())
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
                corpus, sampling.align, sampling.aligned_by, source.train, tokens
            )
            facts.append(hashlib.sha256(self.aligned.tobytes()).hexdigest())
            if without:
                notes.append(
                    f"{without:,} of {len(source.train):,} pairs have no citing sentence: their "
                    "two most similar sentences are taken."
                )
        self.notes: tuple[str, ...] = tuple(notes)
        super().__init__(source, tokens, corpus, facts, tokenization, dev_limit)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> SentencePairBatch:
        """A rank's share of a step's pairs, each distinct paper once."""
        step_pairs = self.source.step_pairs(indices, epoch, step)
        # Of all ranks: how many sentences the negatives have, and which of them are aligned.
        distinct, positions = np.unique(step_pairs.pairs, return_inverse=True)
        counts = self.tokens.sentences(distinct, self.max_length)[2][positions.reshape(-1, 2)]
        aligned = np.full((len(indices), 2), -1, np.int64)
        if self.aligned is not None:
            turned = flipped(self.aligned[indices], indices, self.source.seed, epoch)
            aligned = np.minimum(turned.astype(np.int64), counts - 1)
        negative = step_pairs.negative[share]
        missing = negative < 0
        papers, members = np.unique(step_pairs.pairs[share], return_inverse=True)
        anchor, positive = torch.from_numpy(members.reshape(-1, 2)).unbind(1)
        ids, lengths = self.tokens.rows(papers, self.max_length)
        return SentencePairBatch(
            rows=TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)),
            sentences=sentences_of(self.tokens, papers, self.max_length),
            anchor=anchor.contiguous(),
            positive=positive.contiguous(),
            negative=torch.from_numpy(negative),
            negative_count=torch.from_numpy(np.where(missing, 0, counts[negative, 1])),
            aligned=torch.from_numpy(np.ascontiguousarray(aligned[share])),
            negative_aligned=torch.from_numpy(np.where(missing[:, None], -1, aligned[negative])),
            most=int(counts.max()),
            step=step,
        )

    def dev_items(self, rank: int, world_size: int) -> SentencePaperBatches:
        """This rank's papers of the held-out triplets, longest first, each paper once."""
        return SentencePaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first pairs of the first step with their sentences, and the negative of each."""
        paper_ids, indices = corpus.paper_ids(), plan.indices(0)
        batch = self.batch(indices, epoch=0, step=0)
        rows = batch.rows.ids.split(batch.rows.lengths.tolist())
        starts, ends = batch.sentences.starts, batch.sentences.starts + batch.sentences.lengths
        spans = iter(map(slice, starts.tolist(), ends.tolist()))
        sentences = [tuple(islice(spans, n)) for n in batch.sentences.counts.tolist()]
        examples = []
        for pair, number in enumerate(indices[:count].tolist()):
            negative, aligned = int(batch.negative[pair]), batch.aligned[pair].tolist()
            members = {"anchor": int(batch.anchor[pair]), "positive": int(batch.positive[pair])}
            if negative >= 0:
                members[NEGATIVE_ROLE] = int(batch.positive[negative])
            texts = []
            for (role, row), marked in zip(members.items(), [*aligned, -1], strict=False):
                row_sentences, ids = sentences[row], rows[row].tolist()
                details = (f"{len(row_sentences)} sentences",)
                texts.append(TextDescription(role, ids, "", details, row_sentences, marked))
            notes = ["=> marks the two aligned sentences"] * (min(aligned) >= 0)
            notes += [self.source.no_negative] * (negative < 0)
            title = self.source.title(corpus, paper_ids, number)
            examples.append(ExampleDescription(title, tuple(texts), tuple(notes)))
        return examples


class SentencePaperBatches(PaperBatches):
    """Batches of the papers that one rank encodes for validation, with their sentences."""

    tokens: SentenceIndexedTokens

    def __getitem__(self, index: Any) -> Any:
        batch = super().__getitem__(index)
        papers = self.papers[batch.slots.numpy()]
        return replace(batch, sentences=sentences_of(self.tokens, papers, self.max_length))


def sentences_of(tokens: SentenceIndexedTokens, papers: np.ndarray, max_length: int) -> Sentences:
    """Positions of the sentences of papers in their rows."""
    return Sentences(*map(torch.from_numpy, tokens.sentences(papers, max_length)))


def aligned_sentences(
    corpus: Corpus, align: Align, aligned_by: str, pairs: np.ndarray, tokens: SentenceIndexedTokens
) -> tuple[NDArray[np.int16], int]:
    """The two aligned sentences of each training pair, ``[N, 2]``, as ``tokens`` numbers them.

    Returns:
        The sentences, and the number of pairs without a citing sentence, of which with ``context``
        the two most similar sentences are taken.

    Raises:
        UserError: the corpus holds no such alignment, or no pair has a citing sentence.
    """
    name = find_alignment(corpus, aligned_by)
    alignment = np.asarray(read_alignment(corpus, name, "train"))
    by_context, by_abstract = alignment[:, :2], alignment[:, 2:]
    chosen, without = by_abstract, 0
    if align == "context":
        has_context = (by_context >= 0).all(1, keepdims=True)
        without = int((~has_context).sum())
        if without == len(alignment):
            raise no_contexts(corpus)
        chosen = np.where(has_context, by_context, by_abstract)
    columns = [tokens.numbered(pairs[:, side], chosen[:, side]) for side in (0, 1)]
    return np.stack(columns, axis=1).astype(np.int16), without


def no_contexts(corpus: Corpus) -> UserError:
    """The error for pairs that are to be aligned by contexts and have none."""
    pairs = len(corpus.cocitations("train"))
    return UserError(
        f"{corpus.folder} has no citing sentence of any of its {pairs:,} pairs, and "
        "data.sampling.align is context. Prepare it with --contexts F, or set align to abstract."
    )
