"""Pairs of co-cited papers, and whom each is compared with.

Aspire, Mysore, Cohan and Hope (2022), section 3: two papers cited together are alike, and another
pair's paper is not. The negative of a pair is a paper of the same optimiser step over all ranks,
so who meets whom is a function of (seed, step) and not of the number of ranks.

Shapes: ``B`` pairs of this rank, ``N`` pairs of the step over all ranks, ``P`` papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import PairBatch, TokenRows
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling, TokenizationSpec
from sciembed_train.sampling.span_positions import uniforms
from sciembed_train.sampling.triplets import PaperBatches, by_slots, fingerprint

DEV_PAIRS = 2_000  # as Aspire validated on
FLIP, MEET = 2, 3  # streams of the draws, beside those of spans
SOURCES = ("contexts", "cocitations", "citations", "fulltexts")

Pairs = NDArray[np.integer]
Alike = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
Negatives = Literal["derangement", "randperm"]


@dataclass(frozen=True)
class CocitationSampling(Sampling):
    """The corpus's co-cited pairs, each once an epoch, in a direction drawn anew each time.

    Args:
        negatives: ``derangement`` gives each pair the positive of another pair that is not the
            paper itself, its positive, or a paper known to be co-cited with it. ``randperm`` is a
            plain permutation, as published: on average one pair of a step meets its own positive
            and learns nothing, whatever the size of the step.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    negatives: Negatives = "derangement"

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> PairExamples:
        """The pairs of a corpus that was mined and tokenised for this encoder."""
        key = tokenization.tokenizer.key(tokenization.input_format)
        tokens = corpus.tokens(key)
        comparisons = CocitedPairs(corpus, self.negatives, tokenization.seed)
        return PairExamples(
            comparisons, tokens, corpus, [key], tokenization, dev_limit or DEV_PAIRS
        )

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str) -> None:
        """Papers, and something that says which of them are cited together."""
        super().check_raw(raw, format)
        refuse_uncited(raw)


def refuse_uncited(raw: Mapping[str, str]) -> None:
    """Raise UserError where no raw file says which papers are cited together."""
    if not set(raw) & set(SOURCES):
        raise UserError(
            "Nothing says which papers are cited together: give --data.contexts F or "
            "--data.cocitations F beside --data.papers; or --data.citations F or "
            "--data.fulltexts F with --data.cocitation_mining.cocitations_from references or "
            "fulltexts."
        )


@dataclass(frozen=True)
class PairComparisons:
    """The pairs of an optimiser step over all ranks, and whom each is compared with.

    Args:
        pairs: anchor and positive of each, ``[N, 2]``.
        excluded: which anchor may not have which pair's positive as a negative, ``[N, N]``.
        negative: the pair whose positive is each pair's negative, ``[N]``; -1 where there is none.
    """

    pairs: Pairs
    excluded: NDArray[np.bool_]
    negative: NDArray[np.int64]


class ComparedPairs:
    """Pairs of a corpus, and who of a step meets whom; a subclass says who may not.

    Args:
        train: the training pairs, ``[n, 2]``; may be memory-mapped.
        held_out: those to validate on, ``[m, 2]``.
        negatives: as for `CocitationSampling`.
        seed: of every draw.
    """

    def __init__(self, train: Pairs, held_out: Pairs, negatives: Negatives, seed: int) -> None:
        self.train, self.held_out = train, held_out
        self.negatives, self.seed = negatives, seed

    def excluded(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which anchor may not have which pair's positive as a negative, ``[N, N]``."""
        raise NotImplementedError

    def alike(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of some texts is known to be like another, ``[K]``."""
        raise NotImplementedError

    def compare(self, indices: np.ndarray, epoch: int, step: int) -> PairComparisons:
        """The step's pairs, each in its direction of this epoch, and their negatives."""
        pairs = flipped(np.asarray(self.train[indices], np.int64), indices, self.seed, epoch)
        excluded = self.excluded(pairs)
        generator = np.random.default_rng((self.seed, MEET, step))
        if self.negatives == "derangement":
            return PairComparisons(pairs, excluded, derangement(excluded, generator))
        return PairComparisons(pairs, excluded, generator.permutation(len(pairs)))

    def dev(self, lengths: np.ndarray, limit: int) -> NDArray[np.int64]:
        """See `held_out_triplets`."""
        return held_out_triplets(np.asarray(self.held_out), self.alike, lengths, limit)


class CocitedPairs(ComparedPairs):
    """The co-cited pairs of a corpus: papers known to be co-cited are no negatives.

    Args:
        corpus: mined for co-citations.
        negatives: as for `CocitationSampling`.
        seed: of every draw.
    """

    def __init__(self, corpus: Corpus, negatives: Negatives, seed: int) -> None:
        pairs = corpus.cocitations("train"), corpus.cocitations("dev")
        super().__init__(*pairs, negatives, seed)
        self.papers, self.known = corpus.n_papers, corpus.known_cocitations()

    def excluded(self, pairs: Pairs) -> NDArray[np.bool_]:
        """See `excluded_pairs`."""
        return excluded_pairs(pairs, self.known, self.papers)

    def alike(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each two papers are known to be co-cited, ``[K]``."""
        return among(np.minimum(one, other) * self.papers + np.maximum(one, other), self.known)


class PairExamples:
    """Opened pairs: `Examples` for methods that tell one text like the anchor from others.

    Args:
        comparisons: the pairs.
        tokens: their texts.
        corpus: what they are of.
        facts: what the tokens and the draws depend on beside the corpus's files.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs to validate on.
    """

    name = "pairs"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        comparisons: ComparedPairs,
        tokens: TokenStore,
        corpus: Corpus,
        facts: Sequence[str],
        tokenization: TokenizationSpec,
        dev_limit: int,
    ) -> None:
        self.comparisons, self.tokens, self.max_length = (
            comparisons,
            tokens,
            tokenization.max_length,
        )
        self.pairs = comparisons.train
        self.train = len(self.pairs)
        self.dev_papers, self.dev = by_slots(comparisons.dev(tokens.lengths, dev_limit))
        self.fingerprint = fingerprint(corpus, [*facts, comparisons.negatives], self.pairs)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> PairBatch:
        """A rank's share of a step's pairs, each distinct text once."""
        comparisons = self.comparisons.compare(indices, epoch, step)
        texts, where = np.unique(comparisons.pairs[share], return_inverse=True)
        where = torch.from_numpy(where.reshape(-1, 2))
        ids, lengths = self.tokens.rows(texts, self.max_length)
        return PairBatch(
            TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)),
            where[:, 0].contiguous(),
            where[:, 1].contiguous(),
            torch.from_numpy(comparisons.negative[share]),
            torch.from_numpy(np.argwhere(comparisons.excluded[share])),
            step,
        )

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's texts of the held-out triplets, longest first, each text once."""
        return PaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)


def flipped(pairs: Pairs, indices: np.ndarray, seed: int, epoch: int) -> Pairs:
    """The pairs ``[N, 2]``, each in a direction that (seed, epoch, its number) decides."""
    coins = uniforms(seed, FLIP, epoch, np.asarray(indices, dtype=np.int64), 1) < 0.5
    return np.where(coins, pairs[:, ::-1], pairs)


def excluded_pairs(pairs: Pairs, known: NDArray[np.int64], papers: int) -> NDArray[np.bool_]:
    """Which anchor may not have which pair's positive as a negative, ``[N, N]``.

    Its own positive, itself, and every paper known to be co-cited with it.

    Args:
        pairs: ``[N, 2]`` anchors and positives of a step.
        known: sorted keys ``a * papers + b`` of the known co-cited pairs, ``a < b``.
        papers: ``P``.
    """
    anchors, positives = pairs[:, 0], pairs[:, 1]
    excluded = anchors[:, None] == positives[None, :]
    excluded |= positives[:, None] == positives[None, :]
    there, where = np.unique(pairs, return_inverse=True)
    # Everybody's known partners of a higher number, end to end.
    starts = np.searchsorted(known, there * papers)
    counts = np.searchsorted(known, (there + 1) * papers) - starts
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1]) if len(ends) else 0)
    places += np.repeat(starts - (ends - counts), counts)
    partners = np.asarray(known[places]) % papers
    both = np.isin(partners, there)
    lower = np.repeat(np.arange(len(there)), counts)[both]
    higher = np.searchsorted(there, partners[both])
    cocited = np.zeros((len(there), len(there)), np.bool_)
    cocited[lower, higher] = cocited[higher, lower] = True
    rows, columns = where.reshape(-1, 2).T
    return excluded | cocited[rows[:, None], columns[None, :]]


def among(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of some keys are known; ``known`` is ascending and may be memory-mapped."""
    if not len(known):
        return np.zeros(len(keys), np.bool_)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[place]) == keys


def derangement(excluded: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.int64]:
    """A permutation that gives each row a column it is not forbidden; -1 where there is none.

    A random permutation whose forbidden places are mended by exchanging with a random row that
    both sides allow. With nothing but the diagonal forbidden, two rows are enough for every row to
    have one.
    """
    chosen = generator.permutation(len(excluded))
    rows = np.arange(len(chosen))
    for row in np.flatnonzero(excluded[rows, chosen]):
        if not excluded[row, chosen[row]]:
            continue  # an exchange has mended it already
        allowed = ~excluded[row, chosen] & ~excluded[:, chosen[row]]
        # Also with a row that is itself still at a forbidden place, if the exchange mends both.
        others = np.flatnonzero(allowed)
        if len(others):
            other = generator.choice(others)
            chosen[row], chosen[other] = chosen[other], chosen[row]
    void = excluded[rows, chosen]
    return np.where(void, -1, chosen)


def held_out_triplets(
    pairs: Pairs, alike: Alike, lengths: np.ndarray, limit: int
) -> NDArray[np.int64]:
    """Held-out pairs, each with a random text of the corpus: ``[M, 3]``, always the same.

    Args:
        pairs: ``[n, 2]`` held-out pairs.
        alike: whether each of some texts is known to be like another; such are no negatives.
        lengths: tokens of each text; those without any are no negatives.
        limit: most pairs.
    """
    generator = np.random.default_rng(0)
    if len(pairs) > limit:
        pairs = pairs[np.sort(generator.permutation(len(pairs))[:limit])]
    pairs = np.where(generator.random(len(pairs))[:, None] < 0.5, pairs, pairs[:, ::-1])
    readable = np.flatnonzero(lengths > 0)
    negatives = np.full(len(pairs), -1, dtype=np.int64)
    for _ in range(100):
        open_ = np.flatnonzero(negatives < 0)
        if not len(open_) or not len(readable):
            break
        drawn = generator.choice(readable, len(open_))
        anchor = pairs[open_, 0].astype(np.int64)
        right = (drawn != anchor) & (drawn != pairs[open_, 1]) & ~alike(anchor, drawn)
        negatives[open_[right]] = drawn[right]
    kept = negatives >= 0
    return np.concatenate([pairs[kept], negatives[kept, None]], axis=1).astype(np.int64)
