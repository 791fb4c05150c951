"""Which of the nearest unrelated papers become a query's negatives.

Shapes: ``B`` queries, ``W`` candidates of each from the nearest, ``K`` negatives of each, ``F``
positives of them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sciembed_train.hard_negatives.mine_settings import PositiveScore


@dataclass(frozen=True)
class Chosen:
    """The negatives of some queries.

    Args:
        papers: ``[B, K]``, the most similar first; -1 after the last.
        scores: their similarity to the query; 0 after the last.
        too_similar: candidates of each that scored above its limit ``[B]``.
        two_hop: negatives of each that are two hops away ``[B]``.
    """

    papers: Int64[np.ndarray, "B K"]
    scores: Float32[np.ndarray, "B K"]
    too_similar: Int64[np.ndarray, " B"]
    two_hop: Int64[np.ndarray, " B"]


def positive_scores(
    scores: Float32[np.ndarray, " F"],
    query: Int64[np.ndarray, " F"],
    queries: int,
    by: PositiveScore,
) -> Float32[np.ndarray, " B"]:
    """The score of each query's positives: their mean, or the lowest.

    Args:
        scores: of each positive to its query.
        query: the query of each positive; every query has one at least.
        queries: ``B``.
        by: which of the two.
    """
    if by == "lowest":
        lowest = np.full(queries, np.inf, np.float32)
        np.minimum.at(lowest, query, scores)
        return lowest
    sums = np.bincount(query, weights=scores, minlength=queries)
    return (sums / np.bincount(query, minlength=queries)).astype(np.float32)


def limits(positives: Float32[np.ndarray, " B"], margin: float) -> Float32[np.ndarray, " B"]:
    """The highest score of a negative: ``margin`` times the positives' score.

    TopK-PercPos of NV-Retriever, Moreira et al. (2024), section 4.2. For a positive score below 0
    the limit lies below it by the same share of its size.
    """
    return positives - np.float32(1 - margin) * np.abs(positives)


def choose(
    papers: Int64[np.ndarray, "B W"],
    scores: Float32[np.ndarray, "B W"],
    limit: Float32[np.ndarray, " B"],
    count: int,
    preferred: Bool[np.ndarray, "B W"],
) -> Chosen:
    """The nearest candidates within the limits, preferred ones before others.

    Args:
        papers: candidates from the nearest; -1 after the last.
        scores: of each candidate.
        limit: the highest score of a negative of each query.
        count: ``K``.
        preferred: candidates that are taken before others, however far they are.
    """
    is_candidate = papers >= 0
    within = is_candidate & (scores <= limit[:, None])
    # 0 preferred, 1 other, 2 none; of equals the nearer one.
    order = np.argsort(np.where(within, 1 - preferred, 2), axis=1, kind="stable")[:, :count]
    none = papers.shape[1]
    places = np.where(np.take_along_axis(within, order, axis=1), order, none)
    missing = np.full((len(papers), count - order.shape[1]), none)
    places = np.sort(np.concatenate([places, missing], axis=1), axis=1)  # the nearest first again
    kept = places < none
    at = np.where(kept, places, 0)
    two_hop = np.take_along_axis(preferred, at, axis=1) & kept
    return Chosen(
        papers=np.where(kept, np.take_along_axis(papers, at, axis=1), -1),
        scores=np.where(kept, np.take_along_axis(scores, at, axis=1), np.float32(0)),
        too_similar=(is_candidate & ~within).sum(1),
        two_hop=two_hop.sum(1),
    )
