"""Which candidates of a step a row is compared with, asked some rows at a time.

No table of all rows and all candidates is made, and nothing is read from the device.

Shapes: ``B`` rows of this rank, ``R`` of them asked about, ``M`` candidates, ``N`` triplets of all
ranks, ``F`` pairs, ``S`` sorted texts, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import PairBatch, SentencePairBatch, TokenRows, index_ranges, on_device
from sciembed_train.errors import UserError
from sciembed_train.losses.similarity import EPSILON, euclidean
from sciembed_train.losses.triplet import candidate_loss

_FACTOR = -7046029254386353131  # odd, its bits without a pattern: 2 ** 64 over the golden ratio

Allowed = Callable[[slice], Bool[Tensor, "R M"]]


def against_candidates(
    anchors: Float[Tensor, "B D"],
    positives: Float[Tensor, "B D"],
    candidates: Float[Tensor, "M D"],
    allowed: Allowed,
    margin: float,
    temperature: float | None,
) -> Float[Tensor, " B"]:
    """Loss of each pair against every allowed candidate, on Euclidean distance.

    Args:
        anchors: vectors.
        positives: of each anchor.
        candidates: of all ranks, with gradient, or of this one.
        allowed: whether each candidate is a negative of some anchors.
        margin: see `losses.triplet.candidate_loss`, as ``temperature``.
        temperature: above 0, or None for the margin.
    """
    distances, shifted = euclidean(anchors, positives), anchors + EPSILON  # the same in both
    return candidate_loss(
        distances, shifted, candidates, allowed, margin=margin, temperature=temperature
    )


def outside_pairs(excluded: Int[Tensor, "F 2"], candidates: int, first: int = 0) -> Allowed:
    """All candidates but those that a row forms a forbidden pair with.

    Args:
        excluded: rows here, and the number of a candidate.
        candidates: how many there are.
        first: the number of the first; pairs with others do not count.
    """
    row, candidate = excluded[:, 0], excluded[:, 1] - first
    # What is not asked about is written to one more row or column: to leave it out would take
    # the number of what is left, which only the device knows.
    there = (candidate >= 0) & (candidate < candidates)
    column = torch.where(there, candidate, candidates)

    def allowed(part: slice) -> Tensor:
        rows = part.stop - part.start
        inside = (row >= part.start) & (row < part.stop)
        table = torch.ones((rows + 1, candidates + 1), dtype=torch.bool, device=row.device)
        table[torch.where(inside, row - part.start, rows), column] = False
        return table[:rows, :candidates]

    return allowed


def not_known_as_near(texts: Int[Tensor, "B 3"], every: Int[Tensor, "N 3"]) -> Allowed:
    """The positive of every triplet, then the negative of every one, that is a negative of a row.

    Not the anchor itself, and nothing that a triplet of the step has as its positive, or as the
    query that it is the positive of.

    Args:
        texts: a number for each text of this rank's triplets: query, positive, negative.
        every: of the triplets of all ranks, these among them.
    """
    query, positive = every[:, 0], every[:, 1]
    one = torch.cat([query, positive, query])
    other = torch.cat([positive, query, query])
    candidates = torch.cat([positive, every[:, 2]])
    known = candidates.sort().values
    # Equal texts have one column, one more stands for those that are no candidate.
    column, of_candidate = _place(known, other), _place(known, candidates)

    def allowed(part: slice) -> Tensor:
        anchors = texts[part, 0].contiguous()
        asked = anchors.sort().values
        shape = (len(asked) + 1, len(known) + 1)
        table = torch.ones(shape, dtype=torch.bool, device=every.device)
        table[_place(asked, one), column] = False
        return table[_place(asked, anchors)][:, of_candidate]

    return allowed


def _place(known: Int[Tensor, " S"], texts: Int[Tensor, " F"]) -> Int[Tensor, " F"]:
    """Where each text first stands among sorted ones; after the last, where it does not."""
    place = torch.searchsorted(known, texts)
    there = known[place.clamp(max=len(known) - 1)] == texts
    return torch.where(there, place, len(known))


def text_fingerprints(rows: TokenRows) -> Int[Tensor, " U"]:
    """A number of 64 bits for each text: equal texts have equal ones, others different ones.

    A polynomial of the ids, in integers that wrap around, so that ranks recognise equal texts
    without sending them.
    """
    ids, lengths = rows.ids, rows.lengths.numpy()
    longest = int(lengths.max()) if len(lengths) else 0
    powers = torch.full((longest,), _FACTOR, device=ids.device).cumprod(0)
    texts = np.repeat(np.arange(len(lengths)), lengths)
    positions, text = on_device(ids.device, index_ranges(np.zeros_like(lengths), lengths), texts)
    # Squared with a shift between, so that near ids do not stand in near numbers.
    mixed = (ids + 1) * _FACTOR
    mixed = (mixed ^ (mixed >> 29)) * powers[positions]
    return ids.new_zeros(len(lengths)).index_add(0, text, mixed)


def own_pairs(batch: PairBatch | SentencePairBatch) -> Tensor:
    """Numbers of this rank's pairs among all ranks' pairs."""
    first = distributed.rank() * len(batch)
    return torch.arange(first, first + len(batch), device=batch.anchor.device)


def check_negatives(batch: PairBatch | SentencePairBatch) -> None:
    """Raise UserError unless a pair of the first step has a negative."""
    if len(batch) < 2 or not (batch.negative >= 0).any():
        raise UserError(
            f"data.batch_size={len(batch)} leaves no pair of the first step a negative: it is "
            "another pair's paper. Give a larger data.batch_size."
        )
