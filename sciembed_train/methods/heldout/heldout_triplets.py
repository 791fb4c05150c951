"""What methods on triplets and pairs of papers share: cuts, and scores of held-out triplets.

Shapes: ``B`` triplets, ``D`` width, ``P`` held-out papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

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
    TokenRows,
    TripletBatch,
)
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.evaluation import metrics
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.methods.base import full_precision, gather_columns, widest_float

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


def split_triplets(batch: TripletBatch, tokens: int | None) -> list[TripletBatch]:
    """The batch in consecutive micro-batches of whole triplets, each paper once in a micro-batch.

    A paper of several micro-batches is encoded once in each; the sum of the micro-batches' shares
    of the loss is the loss of the batch.

    Args:
        batch: at least one triplet, on the host.
        tokens: most tokens of a micro-batch's distinct papers; a single triplet may have more.
    """
    if tokens is None or batch.rows.tokens <= tokens:
        return [batch]
    members = torch.stack([batch.anchor, batch.positive, batch.negative], dim=1)
    micro_batches = []
    for papers, where, _ in whole_examples(batch.rows, members, tokens):
        anchor, positive, negative = (where[:, c].contiguous() for c in range(3))
        rows = batch.rows.select(papers)
        micro_batches.append(TripletBatch(rows, anchor, positive, negative, batch.step))
    return micro_batches


def split_pairs(batch: PairBatch, tokens: int | None) -> list[PairBatch]:
    """The batch in consecutive micro-batches of whole pairs, each paper once in a micro-batch.

    A micro-batch's ``forbidden`` stays that of the batch: pairs meet in the batch, not in a
    micro-batch.

    Args:
        batch: at least one pair, on the host.
        tokens: most tokens of a micro-batch's distinct papers; a single pair may have more.
    """
    if tokens is None or batch.rows.tokens <= tokens:
        return [batch]
    members = torch.stack([batch.anchor, batch.positive], dim=1)
    return [
        replace(
            batch,
            rows=batch.rows.select(papers),
            anchor=where[:, 0].contiguous(),
            positive=where[:, 1].contiguous(),
            negative=batch.negative[part],
        )
        for papers, where, part in whole_examples(batch.rows, members, tokens)
    ]


def own_places(batch: PairBatch | SentencePairBatch) -> Tensor:
    """Where this rank's pairs stand among all ranks' pairs."""
    first = distributed.rank() * len(batch)
    return torch.arange(first, first + len(batch), device=batch.anchor.device)


def whole_examples(
    rows: TokenRows, members: Tensor, tokens: int
) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Consecutive examples whose distinct papers have at most ``tokens`` tokens together.

    Yields:
        The papers' rows, where each example's stand among them, and which examples they are.
    """
    lengths = rows.lengths.tolist()
    start, held, used = 0, set[int](), 0
    ends: list[tuple[int, int]] = []
    for number, papers in enumerate(set(row) for row in members.tolist()):
        more = sum(lengths[p] for p in papers - held)
        if held and used + more > tokens:
            ends.append((start, number))
            start, held, used = number, set(), 0
            more = sum(lengths[p] for p in papers)
        held |= papers
        used += more
    for first, last in [*ends, (start, len(members))]:
        papers, where = torch.unique(members[first:last], return_inverse=True)
        yield papers, where, slice(first, last)
