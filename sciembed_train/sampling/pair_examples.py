"""Opened pairs whose negatives come from the same step.

Shapes: ``B`` pairs of this rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sciembed_train.batch import PairBatch, TokenRows
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.sampling.base import Examples, TokenizationSpec, fingerprint
from sciembed_train.sampling.description import ExampleDescription, TextDescription
from sciembed_train.sampling.held_out_papers import PaperBatches, by_slots
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.step_pairs import PairSource

DEV_PAIRS = 2_000  # as Aspire validated on
NEGATIVE_ROLE = "negative, another pair's positive"


class PairExamples(Examples):
    """Opened pairs: `Examples` for methods that compare texts with in-batch negatives.

    Args:
        source: the pairs.
        tokens: their texts.
        corpus: what they are of.
        facts: what the tokens and the draws depend on beside the corpus's files.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs to validate on.
    """

    name = "pairs"

    def __init__(
        self,
        source: PairSource,
        tokens: TokenStore,
        corpus: Corpus,
        facts: Sequence[str],
        tokenization: TokenizationSpec,
        dev_limit: int,
    ) -> None:
        self.source, self.tokens = source, tokens
        self.max_length = tokenization.max_length
        self.pairs = source.train
        self.train = len(self.pairs)
        self.dev_papers, self.dev = by_slots(source.held_out_triplets(tokens.lengths, dev_limit))
        self.fingerprint = fingerprint(corpus, [*facts, source.negatives], self.pairs)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> PairBatch:
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
