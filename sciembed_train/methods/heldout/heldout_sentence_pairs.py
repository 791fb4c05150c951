"""Scores of held-out triplets of papers that are compared sentence by sentence.

Shapes: ``B`` triplets, ``S`` sentences of all texts end to end, ``M`` sentences of the text that
has most, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciembed_train.batch import DevTriplets, PaperBatch
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.methods.heldout.heldout_vectors import (
    gather_columns,
    gather_integers,
    scores_of_finite,
)
from sciembed_train.methods.loss import full_precision, widest_float
from sciembed_train.methods.sentence_objectives import PaddedSentences, sentence_mask

VALIDATION_SCORES = ("val/loss", "val/accuracy")
TRIPLETS = 256  # held-out triplets compared at once

# From anchors, positives and negatives: the loss of each triplet, and the distances of its anchor
# to the positive and to the negative by which papers are ranked.
CompareTriplets = Callable[
    [PaddedSentences, PaddedSentences, PaddedSentences], tuple[Tensor, Tensor, Tensor]
]


class HeldOutSentences:
    """Loss of the held-out triplets, and how many have the positive nearer than the negative."""

    def __init__(self, compare: CompareTriplets) -> None:
        self.compare = compare
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._slots: list[Tensor] = []

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode a batch of held-out papers, which come with their sentences."""
        assert batch.sentences is not None
        vectors = encoder.sentence_vectors(batch.rows, batch.sentences)
        self._vectors.append(full_precision(vectors))
        self._counts.append(batch.sentences.counts.to(vectors.device))
        self._slots.append(batch.slots)

    def scores(self, dev: DevTriplets, device: torch.device) -> dict[str, float]:
        """Mean ``loss``, and ``accuracy``, the share of triplets whose positive is nearer.

        Every rank receives all vectors and computes the same numbers. Only triplets whose three
        papers were encoded count (Lightning may be set to validate on a part). A tie is a miss, so
        that an encoder that gives every sentence the same vector scores lowest and not highest.
        """
        counts, slots = (gather_integers(held, device) for held in (self._counts, self._slots))
        (vectors,) = gather_columns([self._vectors], device)
        columns = torch.stack([dev.anchor, dev.positive, dev.negative]).to(device)
        # Where each paper's sentences begin, and how many it has: 0 if it was not encoded.
        first, count = counts.new_zeros(dev.papers), counts.new_zeros(dev.papers)
        first[slots], count[slots] = torch.cumsum(counts, 0) - counts, counts
        columns = columns[:, (count[columns] > 0).all(0)]
        if not columns.shape[1]:
            return {}
        most = int(count.max())
        slot = torch.arange(most, device=device)

        def sentences(papers: Tensor) -> PaddedSentences:
            mask = sentence_mask(count[papers], most)
            rows = vectors[(first[papers, None] + slot).clamp(max=len(vectors) - 1)]
            return PaddedSentences(rows * mask.unsqueeze(2), mask)

        losses, nearer = [], []
        for part in columns.split(TRIPLETS, dim=1):
            loss, positive_distance, negative_distance = self.compare(*map(sentences, part))
            losses.append(loss)
            nearer.append(positive_distance < negative_distance)
        scores = {
            "loss": torch.cat(losses).to(widest_float(vectors)).mean().item(),
            "accuracy": torch.cat(nearer).to(widest_float(vectors)).mean().item(),
        }
        return scores_of_finite(scores, vectors)
