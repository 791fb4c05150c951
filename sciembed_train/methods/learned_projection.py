"""A linear map learned from vectors that stay as they are: closed form first, then InfoNCE.

The encoder runs once and no more, so that every step can compare hundreds of pairs with thousands
of candidates, which a step of the encoder cannot.

Shapes: ``P`` papers, ``D`` width, ``n`` pairs, ``B`` pairs of a step, ``M`` its candidates, ``F``
pairs of a query and a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from sciembed_train.losses.contrastive import row_cross_entropy
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.in_batch_negatives import outside_pairs
from sciembed_train.methods.projection_settings import ProjectionSettings

# Share of the mean variance of a pair's differences that is added to each of its variances.
RIDGE = 0.5

Ints = NDArray[np.int64]
# Places of queries, of their positives and of candidates, and the candidate that is each query's
# positive: pairs of a query and a candidate that are not compared ``[F, 2]``.
Excluded = Callable[[Ints, Ints, Ints, Ints], Ints]


@dataclass(frozen=True)
class PaperPairs:
    """The pairs that a projection is learned from, by the places of papers among the vectors.

    Args:
        citing: citing and cited paper of each citation ``[n, 2]``.
        cocited: two papers of each co-citation ``[n, 2]``; may be none.
        excluded: which candidates are no negatives of which query.
    """

    citing: Ints
    cocited: Ints
    excluded: Excluded

    @property
    def all(self) -> Ints:
        """The pairs of both kinds, ``[n, 2]``."""
        return np.concatenate([self.citing, self.cocited])


def whitened(vectors: Float[Tensor, "P D"], pairs: Ints) -> Float[Tensor, "D D"]:
    """The map under which differences within pairs are equally large in every direction.

    ``(S + r I)^(-1/2)`` with ``S`` the mean of ``(x - y)(x - y)^T`` over the pairs: directions in
    which papers that belong together differ count less. Within-class covariance normalisation,
    Hatch, Kajarekar and Stolcke (2006), with `RIDGE` of the mean variance as ``r``.

    Args:
        vectors: of unit length.
        pairs: places of papers that belong together ``[n, 2]``, at least one.

    Returns:
        A symmetric matrix whose singular values have a mean of 1.
    """
    differences = (vectors[pairs[:, 0]] - vectors[pairs[:, 1]]).double()
    scatter = differences.T @ differences / len(pairs)
    values, directions = torch.linalg.eigh(scatter)
    values = values.clamp(min=0)
    ridge = (RIDGE * values.mean()).clamp(min=torch.finfo(torch.float32).tiny)
    scales = (values + ridge).rsqrt()
    return ((directions * (scales / scales.mean())) @ directions.T).float()


def learn_map(
    vectors: Float[Tensor, "P D"],
    pairs: PaperPairs,
    settings: ProjectionSettings,
    seed: int = 0,
    done: Callable[[int], object] | None = None,
) -> tuple[Float[Tensor, "D D"], list[float]]:
    """The matrix that vectors are multiplied by from the left, and the loss of each step.

    It starts as `whitened`. A step draws pairs of citations, or of co-citations in a share of the
    steps, and further papers; the loss is `row_cross_entropy` of naming a pair's second paper
    among all second papers and the drawn ones, but for those that the citation graph calls
    related to the first. Adam, whose learning rate falls to 0 in a line. The result is mixed with
    the map that changes nothing: ``share W + (1 - share) I``, both with singular values of mean 1.

    A function of its arguments, but for rounding.

    Args:
        vectors: of unit length, on the host.
        pairs: what belongs together.
        settings: of the learning, with at least one step.
        seed: of what is drawn.
        done: called with 1 after each step.
    """
    rng = np.random.default_rng(seed)
    weight = whitened(vectors, pairs.all).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=settings.lr)
    both_ways = np.concatenate([pairs.cocited, pairs.cocited[:, ::-1]])
    losses: list[float] = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * (1 - step / settings.steps)
        together = len(both_ways) and rng.random() < settings.cocitations
        kind = both_ways if together or not len(pairs.citing) else pairs.citing
        drawn = kind[rng.integers(len(kind), size=settings.batch_size)]
        others = rng.integers(len(vectors), size=settings.negatives)
        loss = _loss(weight, vectors, drawn, np.concatenate([drawn[:, 1], others]), pairs, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if done is not None:
            done(1)
    learned = weight.detach()
    learned = learned / torch.linalg.svdvals(learned).mean()
    identity = torch.eye(len(learned))
    return settings.share * learned + (1 - settings.share) * identity, losses


def _loss(
    weight: Float[Tensor, "D D"],
    vectors: Float[Tensor, "P D"],
    drawn: Ints,
    candidates: Ints,
    pairs: PaperPairs,
    settings: ProjectionSettings,
) -> Float[Tensor, ""]:
    """Mean over the pairs ``[B, 2]`` of a step, whose positives are the first candidates."""
    own = np.arange(len(drawn))
    excluded = torch.from_numpy(pairs.excluded(drawn[:, 0], drawn[:, 1], candidates, own))
    # A paper that is drawn twice is one candidate.
    _, first = np.unique(candidates, return_index=True)
    twice = torch.ones(len(candidates), dtype=torch.bool)
    twice[torch.from_numpy(first)] = False
    outside = outside_pairs(excluded, len(candidates))

    def allowed(part: slice) -> Tensor:
        table = outside(part) & ~twice
        rows = torch.arange(part.start, part.stop)
        table[rows - part.start, rows] = True  # a pair's own positive
        return table

    return row_cross_entropy(
        unit(vectors[drawn[:, 0]] @ weight.T),
        unit(vectors[candidates] @ weight.T),
        torch.from_numpy(own),
        None,
        settings.temperature,
        allowed=allowed,
    ).mean()


def places_of(papers: Ints, pairs: Sequence[Ints]) -> list[Ints]:
    """Pairs of papers by their places in ascending ``papers``; those without a place are left out.

    Args:
        papers: numbers in the corpus ``[P]``, ascending.
        pairs: of papers, ``[n, 2]`` each.
    """
    found: list[Ints] = []
    for each in pairs:
        each = each[np.isin(each, papers).all(1)]
        found.append(np.searchsorted(papers, each))
    return found
