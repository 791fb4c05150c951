"""Which candidates of a step a row is compared with, asked some rows at a time.

No table of all rows and all candidates is made, and nothing is read from the device.

Shapes: ``B`` rows of this rank, ``R`` of them asked about, ``M`` candidates, ``N`` triplets of all
ranks, ``F`` pairs, ``S`` sorted texts, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train.losses.similarity import EPSILON, euclidean
from sciembed_train.losses.triplet import candidate_loss

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
    # The same distance as to the positive, with the same small number in it.
    return candidate_loss(
        euclidean(anchors, positives),
        anchors + EPSILON,
        candidates,
        allowed,
        margin=margin,
        temperature=temperature,
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
