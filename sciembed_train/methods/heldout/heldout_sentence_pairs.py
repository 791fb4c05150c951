"""What methods on pairs compared sentence by sentence share: padding and held-out scores.

Shapes: ``U`` texts, ``B`` triplets, ``S`` sentences of all texts end to end, ``M`` sentences of
the text that has most, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import (
    DevTriplets,
    PaperBatch,
    index_ranges,
    on_device,
)
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.methods.heldout.heldout_vectors import gather_columns
from sciembed_train.methods.loss import full_precision, widest_float

VALIDATION_SCORES = ("val/loss", "val/accuracy")
TRIPLETS = 256  # held-out triplets compared at once


@dataclass(frozen=True)
class Texts:
    """Some texts' sentences.

    Args:
        vectors: of each sentence, zeros after a text's last.
        there: which of them are sentences.
    """

    vectors: Float[Tensor, "U M D"]
    there: Bool[Tensor, "U M"]


def padded(vectors: Float[Tensor, "S D"], counts: Int[Tensor, " U"], most: int) -> Texts:
    """The sentences of each text in a row of its own.

    Args:
        vectors: text after text.
        counts: sentences of each text; on the host.
        most: width of a row, ``M``; no text has more sentences.
    """
    sizes = counts.numpy()
    slots, on_it = on_device(
        vectors.device, index_ranges(np.arange(len(sizes)) * most, sizes), sizes
    )
    rows = vectors.new_zeros(len(sizes) * most, vectors.shape[1]).index_copy(0, slots, vectors)
    return Texts(rows.view(len(sizes), most, -1), sentences_there(on_it, most))


def sentences_there(counts: Int[Tensor, " U"], most: int) -> Bool[Tensor, "U M"]:
    """Which slots of a padded row hold a sentence."""
    return torch.arange(most, device=counts.device) < counts.unsqueeze(1)


class HeldOutSentences:
    """Sentences of the held-out papers, and how their triplets fare.

    Args:
        judge: of anchors, positives and negatives: the loss of each triplet, and the distances of
            its anchor to the two others by which papers are ranked.
    """

    def __init__(
        self, judge: Callable[[Texts, Texts, Texts], tuple[Tensor, Tensor, Tensor]]
    ) -> None:
        self.judge = judge
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._slots: list[Tensor] = []

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode some held-out papers, which come with their sentences."""
        assert batch.sentences is not None
        vectors = encoder.sentence_vectors(batch.rows, batch.sentences)
        self._vectors.append(full_precision(vectors))
        self._counts.append(batch.sentences.counts.to(vectors.device))
        self._slots.append(batch.slots)

    def scores(self, dev: DevTriplets, device: torch.device) -> dict[str, float]:
        """Mean loss of the held-out triplets, and in how many of them the positive is nearer.

        Every rank receives all vectors and computes the same numbers. Only triplets whose three
        papers were encoded count (Lightning may be told to validate on a part). As near as the
        negative is not nearer, so that an encoder that gives every sentence the same vector
        scores worst and not best.
        """
        none = torch.zeros(0, dtype=torch.int64, device=device)
        counts, slots = (
            distributed.gather_ragged(torch.cat([none, *kept]))
            for kept in (self._counts, self._slots)
        )
        (vectors,) = gather_columns([self._vectors], device)
        columns = torch.stack([dev.anchor, dev.positive, dev.negative]).to(device)
        # Where each paper's sentences begin, and how many it has: 0 where it was not encoded.
        first, count = none.new_zeros(dev.papers), none.new_zeros(dev.papers)
        first[slots], count[slots] = torch.cumsum(counts, 0) - counts, counts
        columns = columns[:, (count[columns] > 0).all(0)]
        if not columns.shape[1]:
            return {}
        most = int(count.max())
        slot = torch.arange(most, device=device)

        def texts(papers: Tensor) -> Texts:
            there = sentences_there(count[papers], most)
            rows = vectors[(first[papers, None] + slot).clamp(max=len(vectors) - 1)]
            return Texts(rows * there.unsqueeze(2), there)

        losses, nearer = [], []
        for part in columns.split(TRIPLETS, dim=1):
            loss, near, far = self.judge(*(texts(papers) for papers in part))
            losses.append(loss)
            nearer.append(near < far)
        return {
            "loss": torch.cat(losses).to(widest_float(vectors)).mean().item(),
            "accuracy": torch.cat(nearer).to(widest_float(vectors)).mean().item(),
        }
