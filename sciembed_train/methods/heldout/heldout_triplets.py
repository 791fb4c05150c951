"""Scores of held-out triplets, for methods on triplets and pairs of papers.

Shapes: ``B`` triplets, ``D`` width, ``P`` held-out papers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import (
    DevTriplets,
    PairBatch,
    PaperBatch,
    SentencePairBatch,
)
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.evaluation import metrics
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.methods.heldout.heldout_vectors import gather_columns
from sciembed_train.methods.loss import full_precision, widest_float

VALIDATION_SCORES = ("val/loss", "val/mrr", "val/recall@10", "val/map")


class HeldOutTriplets:
    """Vectors of the held-out papers, and how their triplets fare.

    Args:
        loss: of each triplet, from three columns of vectors.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self.loss = loss
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors: list[Tensor] = []
        self._slots: list[Tensor] = []

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode some held-out papers."""
        self._vectors.append(full_precision(encoder(batch.rows)))
        self._slots.append(batch.slots)

    def scores(self, dev: DevTriplets, device: torch.device) -> dict[str, float]:
        """The loss of the held-out triplets and how their queries rank the held-out papers.

        Every rank receives all vectors and computes the same numbers. Only triplets whose three
        papers were encoded count (Lightning may be told to validate on a part).
        """
        none = torch.zeros(0, dtype=torch.int64, device=device)
        slots = distributed.gather_ragged(torch.cat([none, *self._slots]))
        (vectors,) = gather_columns([self._vectors], device)
        if not len(slots):
            return {}
        table = vectors.new_zeros(dev.papers, vectors.shape[1])
        table[slots] = vectors
        there = torch.zeros(dev.papers, dtype=torch.bool, device=device)
        there[slots] = True
        return held_out_scores(table, there, dev, self.loss)


def held_out_scores(
    vectors: Float[Tensor, "P D"],
    there: Bool[Tensor, " P"],
    dev: DevTriplets,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> dict[str, float]:
    """Loss of held-out triplets, and MRR, recall@10 and MAP of their queries.

    A query ranks every other paper of the pool by Euclidean distance; relevant are the positives
    of its triplets. Of papers equally near, the irrelevant come first, so that an encoder that
    gives every text the same vector scores worst and not best.

    Args:
        vectors: of the pool. One that is nan, as after training diverged, makes the loss nan.
        there: whether each paper was encoded.
        dev: the triplets.
        loss: of each triplet, from three columns of vectors.
    """
    columns = torch.stack([dev.anchor, dev.positive, dev.negative]).to(vectors.device)
    columns = columns[:, there[columns].all(0)]
    if not columns.shape[1]:
        return {}
    losses = [loss(*(vectors[c] for c in part)) for part in columns.split(4096, dim=1)]
    pool = torch.nonzero(there).squeeze(1)
    anchors, positives = columns[0].cpu().numpy(), columns[1].cpu().numpy()
    cited: dict[int, set[int]] = {}
    for anchor, positive in zip(anchors.tolist(), positives.tolist(), strict=True):
        cited.setdefault(anchor, set()).add(positive)
    names = pool.cpu().numpy()
    found: list[list[float]] = []
    for some in torch.tensor(sorted(cited)).split(64):
        distances = pairwise_euclidean(vectors[some.to(vectors.device)], vectors[pool])
        distances = distances.cpu().numpy()
        for query, row in zip(some.tolist(), distances, strict=True):
            others = names != query
            relevant = np.isin(names[others], list(cited[query]))
            hits = relevant[np.lexsort((relevant, row[others]))]
            found.append(
                [
                    float(metrics.reciprocal_rank(hits)),
                    float(metrics.recall_at(hits, 10)),
                    float(metrics.average_precision(hits)),
                ]
            )
    mrr, recall, average = np.mean(found, axis=0).tolist()
    return {
        "loss": torch.cat(losses).to(widest_float(vectors)).mean().item(),
        "mrr": mrr,
        "recall@10": recall,
        "map": average,
    }


def own_places(batch: PairBatch | SentencePairBatch) -> Tensor:
    """Where this rank's pairs stand among all ranks' pairs."""
    first = distributed.rank() * len(batch)
    return torch.arange(first, first + len(batch), device=batch.anchor.device)
