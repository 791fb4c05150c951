"""How pairs from several sources fill the steps of a run, by the weight of each source.

The pairs of all sources are numbered through, source after source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.sampling.plan import StepPlan, check_batch

SOURCE_STREAM, ORDER_STREAM = 7, 8  # of the draws, beside the other streams

Ints = NDArray[np.int64]
SourcesPerBatch = Literal["one", "mixed"]


@dataclass(frozen=True)
class MixturePlan(StepPlan):
    """How the pairs of several sources fill the optimiser steps of a run.

    The slots of an epoch, which are its steps (``one``) or the examples of its steps (``mixed``),
    are shared among the sources by weight and shuffled. Each source goes through its own pairs in
    an order of its own, drawn anew each time, and begins again when it has come to their end. An
    epoch has as many pairs as all sources together: a source of little weight takes several epochs
    to come through, and one of few pairs comes through several times in one.

    Args:
        names: of the sources, for messages.
        sizes: training pairs of each, at least 1.
        weights: share of the slots that each gets, above 0; they need not sum to 1.
        batch_size: pairs per optimiser step over all ranks.
        seed: of the orders.
        world_size: ranks that share a step.
        sources_per_batch: whether a step has pairs of one source or of several.

    Raises:
        UserError: the ranks cannot share a step evenly, or there are too few pairs for a step.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    batch_size: int
    seed: int
    world_size: int = 1
    sources_per_batch: SourcesPerBatch = "one"
    examples: int = field(init=False)
    _slots: dict[int, tuple[Ints, Ints]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _orders: dict[int, tuple[int, Ints]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", sum(self.sizes))
        check_batch(self.examples, self.batch_size, self.world_size, "pairs")
        if self.sources_per_batch == "one":
            for name, size in zip(self.names, self.sizes, strict=True):
                if size < self.batch_size:
                    raise UserError(
                        f"The source {name} has {size:,} training pairs, fewer than one batch of "
                        f"data.batch_size={self.batch_size}. Choose a smaller batch_size, "
                        "data.sampling.sources_per_batch mixed, or the weight 0 for this source "
                        f"(data.sampling.weights.{name})."
                    )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch, enough for a step of each source."""
        steps = self.examples // self.batch_size
        return max(steps, len(self.names)) if self.sources_per_batch == "one" else steps

    @property
    def left_out(self) -> int:
        """Pairs that fill no step, if every source had the weight of its size."""
        return self.examples % self.batch_size

    @property
    def slots_per_epoch(self) -> Ints:
        """How many slots of an epoch each source gets."""
        slots = self.steps_per_epoch
        return shared(
            slots if self.sources_per_batch == "one" else slots * self.batch_size, self.weights
        )

    def source(self, step: int) -> int:
        """The source of a step that has one, or of its first pair."""
        return int(self._of_step(step)[0][0])

    def indices(self, step: int) -> Ints:
        """See `StepPlan`."""
        sources, numbers = self._of_step(step)
        firsts = np.cumsum([0, *self.sizes[:-1]])
        if self.sources_per_batch == "one":
            source, number = int(sources[0]), int(numbers[0])
            turn, batch = divmod(number, self.sizes[source] // self.batch_size)
            start = batch * self.batch_size
            return self._order(source, turn)[start : start + self.batch_size] + firsts[source]
        pairs = np.empty(self.batch_size, np.int64)
        for source in np.unique(sources).tolist():
            is_source = sources == source
            turns, places = np.divmod(numbers[is_source], self.sizes[source])
            drawn = np.empty(len(turns), np.int64)
            for turn in np.unique(turns).tolist():
                drawn[turns == turn] = self._order(source, turn)[places[turns == turn]]
            pairs[is_source] = drawn + firsts[source]
        return pairs

    def _of_step(self, step: int) -> tuple[Ints, Ints]:
        """Source of each slot of a step, and the slot's number among that source's of the run."""
        epoch, within = divmod(step, self.steps_per_epoch)
        size = 1 if self.sources_per_batch == "one" else self.batch_size
        sources, numbers = self._epoch_slots(epoch)
        part = slice(within * size, (within + 1) * size)
        return sources[part], numbers[part]

    def _epoch_slots(self, epoch: int) -> tuple[Ints, Ints]:
        if epoch not in self._slots:  # a cache of one epoch
            self._slots.clear()
            counts = self.slots_per_epoch
            generator = np.random.default_rng((self.seed, SOURCE_STREAM, epoch))
            sources = generator.permutation(np.repeat(np.arange(len(counts)), counts))
            numbers = np.empty(len(sources), np.int64)
            for source, count in enumerate(counts.tolist()):
                numbers[sources == source] = epoch * count + np.arange(count)
            self._slots[epoch] = sources, numbers
        return self._slots[epoch]

    def _order(self, source: int, turn: int) -> Ints:
        """The order in which a source goes through its pairs for the ``turn``-th time."""
        cached = self._orders.get(source)
        if cached is None or cached[0] != turn:
            generator = np.random.default_rng((self.seed, ORDER_STREAM, source, turn))
            cached = self._orders[source] = turn, generator.permutation(self.sizes[source])
        return cached[1]


def shared(total: int, weights: tuple[float, ...]) -> Ints:
    """``total`` slots shared by weight, at least one for each where there are as many.

    The largest remainders are rounded up; a share without a slot takes one from the largest.

    Args:
        total: slots.
        weights: of the shares, above 0.
    """
    exact = total * np.asarray(weights, np.float64) / sum(weights)
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    if total >= len(counts):
        for source in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[source] += 1
    return counts
