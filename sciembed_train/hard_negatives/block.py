"""One block of mining: queries against all papers, and the negatives chosen for them.

The scores of the block are never held whole: a tile of papers at a time is multiplied, related
papers are taken out, and the nearest of the others are kept (`NearestRows`).

Shapes: ``B`` queries, ``T`` papers of a tile, ``K`` negatives of a query, ``n`` positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.hard_negatives.choice import choose, limits, positive_scores
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.hard_negatives.nearest_rows import NearestRows
from sciembed_train.hard_negatives.relations import (
    RelatedPairs,
    Relation,
    Relations,
    TwoHopPapers,
)
from sciembed_train.inference.stored_vectors import StoredVectors

TILE = 4096  # papers multiplied at once


@dataclass(frozen=True)
class Block:
    """What was mined for the queries of a block.

    Args:
        papers: negatives ``[B, K]``, the most similar first; -1 after the last.
        scores: their similarity to the query ``[B, K]``.
        positives: the score of each positive, query by query ``[n]``.
        limit: the highest score that a negative of each query may have ``[B]``.
        counts: of each query ``[B, 10]``: papers of each `Relation` among the nearest, then
            candidates passed over as the very nearest, candidates above the limit, and negatives
            two hops away.
    """

    papers: NDArray[np.int64]
    scores: NDArray[np.float32]
    positives: NDArray[np.float32]
    limit: NDArray[np.float32]
    counts: NDArray[np.int64]


COUNTS = len(Relation) + 3


@dataclass(frozen=True)
class Miner:
    """Mines the negatives of blocks of queries.

    Args:
        settings: the rules.
        vectors: of the papers.
        relations: which papers are no negatives.
        candidates: whether each row of the vectors may be a negative ``[R]``.
        two_hop: papers that are taken first; None for no preference.
        device: that multiplies.
    """

    settings: MineSettings
    vectors: StoredVectors
    relations: Relations
    candidates: NDArray[np.bool_]
    two_hop: TwoHopPapers | None
    device: torch.device

    def mine(self, start: int, stop: int) -> Block:
        """The negatives of the queries ``start`` to ``stop - 1``."""
        first, last = self.settings.window
        queries = self.relations.positives.queries[start:stop]
        related = self.relations.of(start, stop)
        scores, rows, related_scores = self._nearest(queries, related, last)
        papers = np.where(rows >= 0, self.vectors.paper[np.maximum(rows, 0)], -1)
        is_positive = related.relation == Relation.POSITIVE
        of_positives, of_query = related_scores[is_positive], related.query[is_positive]
        score = positive_scores(of_positives, of_query, len(queries), self.settings.positive)
        limit = limits(score, self.settings.margin)
        window = papers[:, first:]
        near = np.zeros(window.shape, np.bool_)
        if self.two_hop is not None:
            near = self.two_hop.among(queries, window)
        chosen = choose(window, scores[:, first:], limit, self.settings.count, near)
        # Related papers that would have stood among the nearest, had they not been taken out.
        least = scores[:, -1]
        compared = related_scores > -np.inf
        among = np.flatnonzero(compared & (related_scores >= least[related.query]))
        counts = np.zeros((len(queries), COUNTS), np.int64)
        np.add.at(counts, (related.query[among], related.relation[among]), 1)
        passed_over = (papers[:, :first] >= 0).sum(1)
        counts[:, -3:] = np.stack([passed_over, chosen.too_similar, chosen.two_hop], axis=1)
        return Block(chosen.papers, chosen.scores, of_positives, limit, counts)

    def _nearest(
        self, queries: NDArray[np.int64], related: RelatedPairs, kept: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """The nearest unrelated papers: scores and rows, and the scores of the related ones.

        A related paper without a vector has the score of minus infinity.
        """
        vectors = self.vectors
        left = torch.from_numpy(vectors.rows(vectors.row[queries])).to(self.device)
        nearest = NearestRows(len(queries), kept)
        rows = vectors.row[related.paper]
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        related_scores = np.full(len(rows), -np.inf, np.float32)
        scores = torch.empty((len(queries), TILE), device=self.device)
        for low in range(0, len(vectors), TILE):
            high = min(low + TILE, len(vectors))
            right = torch.from_numpy(vectors.tile(low, high)).to(self.device)
            if high - low < TILE:
                scores = torch.empty((len(queries), high - low), device=self.device)
            torch.mm(left, right.T, out=scores)
            in_tile = order[slice(*np.searchsorted(ordered, (low, high)))]
            place = (
                torch.from_numpy(related.query[in_tile]).to(self.device),
                torch.from_numpy(rows[in_tile] - low).to(self.device),
            )
            related_scores[in_tile] = scores[place].cpu().numpy()
            scores[place] = -torch.inf
            left_out = np.flatnonzero(~self.candidates[low:high])
            if len(left_out):
                scores[:, torch.from_numpy(left_out).to(self.device)] = -torch.inf
            nearest.add(scores, low)
        return (*nearest.result(), related_scores)
