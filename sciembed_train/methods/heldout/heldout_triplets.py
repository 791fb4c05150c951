"""Scores of held-out triplets of papers.

Shapes: ``B`` triplets, ``D`` width, ``P`` held-out papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciembed_train.batch import DevTriplets, PaperBatch
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.evaluation import metrics
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.methods.heldout.heldout_vectors import HeldOutVectors, scores_of_finite
from sciembed_train.methods.loss import full_precision, widest_float
from sciembed_train.methods.nested import NestedLoss

VALIDATION_SCORES = ("val/loss", "val/mrr", "val/recall@10", "val/map")
NESTED_SCORE = "val/map"

TripletLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


class HeldOutTriplets:
    """Loss of the held-out triplets, and how their queries rank the held-out papers.

    Args:
        loss: of each triplet, from three columns of vectors.
        nested: has the widths at which papers are ranked, too; None for the full one alone.
    """

    def __init__(self, loss: TripletLoss, nested: NestedLoss | None = None) -> None:
        self.loss, self.nested = loss, nested
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors = HeldOutVectors()

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode a batch of held-out papers."""
        self._vectors.add(batch.slots, full_precision(encoder(batch.rows)))

    def scores(self, dev: DevTriplets, device: torch.device) -> dict[str, float]:
        """``loss``, ``mrr``, ``recall@10``, ``map``, and ``map_d``; see `held_out_scores`.

        Every rank receives all vectors and computes the same numbers. Only triplets whose three
        papers were encoded count (Lightning may be set to validate on a part).
        """
        table = self._vectors.table(dev.papers, device)
        return {} if table is None else held_out_scores(*table, dev, self.loss, self.nested)


def held_out_scores(
    vectors: Float[Tensor, "P D"],
    encoded: Bool[Tensor, " P"],
    dev: DevTriplets,
    loss: TripletLoss,
    nested: NestedLoss | None = None,
) -> dict[str, float]:
    """Loss of held-out triplets, and MRR, recall@10 and MAP of their queries; MAP at each width.

    A query ranks every other paper of the pool by Euclidean distance; relevant are the positives
    of its triplets. Of papers at the same distance the irrelevant come first, so that an encoder
    that gives every text the same vector scores lowest and not highest.

    Args:
        vectors: of the pool. One that is not finite, as after training diverged, makes every
            score nan.
        encoded: whether each paper was encoded.
        dev: the triplets.
        loss: of each triplet, from three columns of vectors.
        nested: has the widths of ``map_d``; None for none.
    """
    columns = torch.stack([dev.anchor, dev.positive, dev.negative]).to(vectors.device)
    columns = columns[:, encoded[columns].all(0)]
    if not columns.shape[1]:
        return {}
    losses = [loss(*(vectors[column] for column in part)) for part in columns.split(4096, dim=1)]
    mrr, recall, average = ranking_scores(vectors, encoded, columns[0], columns[1])
    scores = {
        "loss": torch.cat(losses).to(widest_float(vectors)).mean().item(),
        "mrr": mrr,
        "recall@10": recall,
        "map": average,
    }
    if nested is not None:

        def average_of(shorter: Float[Tensor, "P d"]) -> float:
            return ranking_scores(shorter, encoded, columns[0], columns[1])[2]

        scores |= nested.scores("map", average, average_of, vectors)
    return scores_of_finite(scores, vectors[encoded])


def ranking_scores(
    vectors: Float[Tensor, "P D"], encoded: Bool[Tensor, " P"], anchors: Tensor, positives: Tensor
) -> list[float]:
    """MRR, recall@10 and MAP, means over the queries; nan where a vector is not finite.

    Args:
        vectors: of the pool.
        encoded: which of them are ranked.
        anchors: the query of each pair.
        positives: what is relevant to it.
    """
    if not bool(vectors[encoded].isfinite().all()):
        return [math.nan] * 3  # sorting would put nan somewhere, and that would have a score
    relevant_of: dict[int, set[int]] = {}
    for anchor, positive in zip(anchors.tolist(), positives.tolist(), strict=True):
        relevant_of.setdefault(anchor, set()).add(positive)
    pool = torch.nonzero(encoded).squeeze(1)
    papers = pool.cpu().numpy()
    scores: list[list[float]] = []
    for queries in torch.tensor(sorted(relevant_of)).split(64):
        distances = pairwise_euclidean(vectors[queries.to(vectors.device)], vectors[pool])
        for query, row in zip(queries.tolist(), distances.cpu().numpy(), strict=True):
            others = papers != query
            relevant = np.isin(papers[others], list(relevant_of[query]))
            hits = relevant[np.lexsort((relevant, row[others]))]
            scores.append(
                [
                    float(metrics.reciprocal_rank(hits)),
                    float(metrics.recall_at(hits, 10)),
                    float(metrics.average_precision(hits)),
                ]
            )
    return np.mean(scores, axis=0).tolist()
