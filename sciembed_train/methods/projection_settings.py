"""How a projection is learned after training. Importing this module imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class ProjectionSettings:
    """A linear map of the trained encoder's vectors, learned after training from those vectors.

    They are computed once, so that a step compares hundreds of pairs with thousands of papers at
    the cost of a matrix product. The map becomes the encoder's projection.

    Args:
        steps: training steps of the projection; 0 learns none.
        batch_size: pairs per step.
        negatives: further papers per step, drawn as candidates of every pair.
        lr: the highest learning rate, which falls to 0 in a line.
        temperature: what cosines are divided by.
        cocitations: share of the steps whose pairs are cited together, where there are such.
        share: share of the learned map in the projection, the rest being the identity; a smaller
            one changes the encoder less in other fields.
        alpha: share of the trained weights in the encoder before the projection, the rest being the
            start's; used if no verdict chooses a share on dev queries, ``alphas`` is not one share,
            and the start is an encoder and no language model.
        most_papers: vectors computed at most; of a larger collection as many papers are drawn.
        fewest_pairs: with fewer training pairs no projection is learned.

    Raises:
        UserError: a value is out of its range.
    """

    steps: int = 0
    batch_size: int = 512
    negatives: int = 2000
    lr: float = 3e-4
    temperature: float = 0.05
    cocitations: float = 0.3
    share: float = 0.75
    alpha: float = 1.0
    most_papers: int = 50_000
    fewest_pairs: int = 1000

    def __post_init__(self) -> None:
        for name, least in (
            *(("steps", 0), ("batch_size", 2), ("negatives", 0)),
            *(("most_papers", 2), ("fewest_pairs", 1)),
        ):
            if getattr(self, name) < least:
                raise UserError(
                    f"projection.{name} must be {least} or more; got {getattr(self, name)}."
                )
        for name in ("lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"projection.{name} must be above 0; got {getattr(self, name)}.")
        if not 0 <= self.cocitations <= 1:
            raise UserError(
                f"projection.cocitations is a share, from 0 to 1; got {self.cocitations}."
            )
        for name in ("share", "alpha"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(
                    f"projection.{name} must be above 0 and at most 1; got {getattr(self, name)}. "
                    "projection.steps 0 learns no projection."
                )
