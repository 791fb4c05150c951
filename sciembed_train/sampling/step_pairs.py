"""Pairs of texts whose negatives come from the same optimiser step.

Aspire, Mysore, Cohan and Hope (2022), section 3: the negative of a pair is the positive of another
pair of the same step. Pairs, directions and negatives are functions of (seed, epoch, step) and not
of the number of ranks.

Shapes: ``B`` pairs of this rank, ``N`` of the step over all ranks, ``K`` texts or pairs of them,
``M`` held-out pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import PairBatch, SentencePairBatch, TokenRows
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    TextDescription,
    TokenizationSpec,
    fingerprint,
)
from sciembed_train.sampling.held_out_papers import PaperBatches, by_slots
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.span_positions import uniforms

DIRECTION_STREAM, NEGATIVE_STREAM = 2, 3  # of the draws, beside the streams of spans
DEV_PAIRS = 2_000  # as Aspire validated on
NEGATIVE_ROLE = "negative, another pair's positive"

Pairs = NDArray[np.integer]
Related = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
Negatives = Literal["derangement", "randperm"]


@dataclass(frozen=True)
class StepPairs:
    """The pairs of an optimiser step over all ranks, and their negatives.

    Args:
        pairs: anchor and positive of each, ``[N, 2]``.
        excluded: which pair's positive is no negative of which anchor, ``[N, N]``.
        negative: the pair whose positive is each pair's negative, ``[N]``; -1 where there is none.
    """

    pairs: Pairs
    excluded: NDArray[np.bool_]
    negative: NDArray[np.int64]


class PairSource(ABC):
    """The pairs of a corpus; a subclass knows which texts are related and so no negatives.

    Args:
        train: the training pairs, ``[n, 2]``; may be memory-mapped.
        held_out: those to validate on, ``[m, 2]``.
        negatives: as for `CocitationSampling`.
        seed: of every draw.
    """

    of_papers: ClassVar[bool] = True  # whether its texts are papers
    no_negative: ClassVar[str] = ""  # why a pair may have no negative, for `show`

    def __init__(self, train: Pairs, held_out: Pairs, negatives: Negatives, seed: int) -> None:
        self.train, self.held_out = train, held_out
        self.negatives, self.seed = negatives, seed

    @abstractmethod
    def excluded_negatives(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pair's positive is no negative of which anchor, ``[N, N]``."""

    @abstractmethod
    def related(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each text of the left is known to be related to that of the right, ``[K]``."""

    @abstractmethod
    def title(self, corpus: Corpus, paper_ids: list[str], number: int) -> str:
        """What a training pair is, for `show`."""

    def drawn(self, corpus: Corpus, lengths: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which texts may be drawn as negatives of held-out pairs, ``[P]``: those with tokens."""
        return lengths > 0

    def text_source(self, paper_ids: list[str], text: int) -> str:
        """What a text is, for `show`; empty where the title says it."""
        return ""

    def step_pairs(self, indices: np.ndarray, epoch: int, step: int) -> StepPairs:
        """The step's pairs, each in its direction of this epoch, and their negatives."""
        pairs = flipped(np.asarray(self.train[indices], np.int64), indices, self.seed, epoch)
        excluded = self.excluded_negatives(pairs)
        generator = np.random.default_rng((self.seed, NEGATIVE_STREAM, step))
        if self.negatives == "derangement":
            return StepPairs(pairs, excluded, derangement(excluded, generator))
        return StepPairs(pairs, excluded, generator.permutation(len(pairs)))


class PairExamples(Examples):
    """Opened pairs, for methods that compare texts with in-batch negatives.

    Args:
        source: the pairs.
        tokens: their texts.
        corpus: what they are of.
        facts: what the tokens and the draws depend on beside the corpus's files.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs to validate on; None for 2,000.
    """

    name = "pairs"

    def __init__(
        self,
        source: PairSource,
        tokens: TokenStore,
        corpus: Corpus,
        facts: Sequence[str],
        tokenization: TokenizationSpec,
        dev_limit: int | None,
    ) -> None:
        self.source, self.tokens = source, tokens
        self.max_length = tokenization.max_length
        self.pairs = source.train
        self.train = len(self.pairs)
        limit = dev_limit or DEV_PAIRS
        held_out = held_out_triplets(
            source.held_out, source.related, source.drawn(corpus, tokens.lengths), limit
        )
        self.dev_papers, self.dev = by_slots(held_out)
        self.fingerprint = fingerprint(corpus, facts, self.pairs)

    def training_papers(self) -> np.ndarray | None:
        """The papers of the training pairs; None where the pairs are of other texts."""
        return np.unique(self.pairs) if self.source.of_papers else None

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> PairBatch | SentencePairBatch:
        """A rank's share of a step's pairs, each distinct text once."""
        step_pairs = self.source.step_pairs(indices, epoch, step)
        texts, rows = np.unique(step_pairs.pairs[share], return_inverse=True)
        anchor, positive = torch.from_numpy(rows.reshape(-1, 2)).unbind(1)
        ids, lengths = self.tokens.rows(texts, self.max_length)
        return PairBatch(
            rows=TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)),
            anchor=anchor.contiguous(),
            positive=positive.contiguous(),
            negative=torch.from_numpy(step_pairs.negative[share]),
            excluded=torch.from_numpy(np.argwhere(step_pairs.excluded[share])),
            step=step,
        )

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's texts of the held-out triplets, longest first, each text once."""
        return PaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first pairs of the first step, and the negative of each."""
        paper_ids, indices = corpus.paper_ids(), plan.indices(0)
        step_pairs = self.source.step_pairs(indices, 0, 0)
        examples = []
        for pair, number in enumerate(indices[:count].tolist()):
            anchor, positive = step_pairs.pairs[pair].tolist()
            members = {"anchor": anchor, "positive": positive}
            negative = int(step_pairs.negative[pair])
            if negative >= 0:
                members[NEGATIVE_ROLE] = int(step_pairs.pairs[negative, 1])
            texts = []
            for role, text in members.items():
                ids, _ = self.tokens.rows(np.array([text]), self.max_length)
                source = self.source.text_source(paper_ids, text)
                texts.append(TextDescription(role, ids.tolist(), source))
            notes = (self.source.no_negative,) if negative < 0 else ()
            title = self.source.title(corpus, paper_ids, number)
            examples.append(ExampleDescription(title, tuple(texts), notes))
        return examples


def flipped(pairs: Pairs, indices: np.ndarray, seed: int, epoch: int) -> Pairs:
    """The pairs ``[N, 2]``, each in a direction that (seed, epoch, its number) decides."""
    coins = uniforms(seed, DIRECTION_STREAM, epoch, np.asarray(indices, dtype=np.int64), 1) < 0.5
    return np.where(coins, pairs[:, ::-1], pairs)


def derangement(excluded: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.int64]:
    """A permutation that gives each row a column that is not excluded; -1 where there is none.

    A random permutation whose excluded entries are repaired by exchanging with a random row, where
    that is allowed for both. With only the diagonal excluded, two rows are enough for every row to
    have a column.
    """
    columns = generator.permutation(len(excluded))
    rows = np.arange(len(columns))
    for row in np.flatnonzero(excluded[rows, columns]):
        if not excluded[row, columns[row]]:
            continue  # an earlier exchange has repaired it
        # Also with a row that is itself still excluded, if the exchange repairs both.
        candidates = np.flatnonzero(~excluded[row, columns] & ~excluded[:, columns[row]])
        if len(candidates):
            partner = generator.choice(candidates)
            columns[row], columns[partner] = columns[partner], columns[row]
    return np.where(excluded[rows, columns], -1, columns)


def held_out_triplets(
    pairs: Pairs, related: Related, drawn: NDArray[np.bool_], limit: int
) -> NDArray[np.int64]:
    """Held-out pairs, each with a random text of the corpus: ``[M, 3]``, always the same.

    Args:
        pairs: ``[n, 2]`` held-out pairs.
        related: whether texts are known to be related to others; such are no negatives.
        drawn: whether each text may be a negative.
        limit: most pairs.
    """
    generator = np.random.default_rng(0)
    if len(pairs) > limit:
        pairs = pairs[np.sort(generator.permutation(len(pairs))[:limit])]
    pairs = np.where(generator.random(len(pairs))[:, None] < 0.5, pairs, pairs[:, ::-1])
    readable = np.flatnonzero(drawn)
    negatives = np.full(len(pairs), -1, dtype=np.int64)
    for _ in range(100):
        missing = np.flatnonzero(negatives < 0)
        if not len(missing) or not len(readable):
            break
        others = generator.choice(readable, len(missing))
        anchor = pairs[missing, 0].astype(np.int64)
        usable = (others != anchor) & (others != pairs[missing, 1]) & ~related(anchor, others)
        negatives[missing[usable]] = others[usable]
    kept = negatives >= 0
    return np.concatenate([pairs[kept], negatives[kept, None]], axis=1).astype(np.int64)
