"""How examples fill the steps of a run: pure functions of (seed, epoch, step, rank).

Nothing here depends on what was asked before, so workers, ranks and restarts cannot change the
data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from sciembed_train.errors import UserError


class StepPlan(ABC):
    """How the examples of a run fill its optimiser steps: a pure function of the step.

    Attributes:
        examples: number of training examples.
        batch_size: examples per optimiser step over all ranks.
        world_size: ranks that share a step.
    """

    examples: int
    batch_size: int
    world_size: int

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""

    @property
    @abstractmethod
    def left_out(self) -> int:
        """Examples that an epoch does not use."""

    @abstractmethod
    def indices(self, step: int) -> np.ndarray:
        """The examples of one step over all ranks, int64 ``[batch_size]``.

        ``step`` counts from 0 over the whole run.
        """

    def epoch(self, step: int) -> int:
        """The epoch of a step."""
        return step // self.steps_per_epoch

    def share(self, rank: int) -> slice:
        """Which of a step's examples are one rank's.

        Each rank takes a contiguous block: together they have what one process would have, in
        the same order.
        """
        size = self.batch_size // self.world_size
        return slice(rank * size, (rank + 1) * size)


def first_indices(plan: StepPlan, count: int) -> np.ndarray:
    """The first examples of epoch 0, int64 ``[count]``, or fewer where the epoch has fewer."""
    steps = min(-(-count // plan.batch_size), plan.steps_per_epoch)
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *(plan.indices(step) for step in range(steps))])[:count]


def check_batch(examples: int, batch_size: int, world_size: int, what: str = "examples") -> None:
    """Raise UserError unless ranks can share a batch evenly, and there is at least one."""
    if batch_size < 1:
        raise UserError(f"data.batch_size must be 1 or more; got {batch_size}.")
    if batch_size % world_size:
        raise uneven_batch(batch_size, world_size)
    if examples < batch_size:
        raise UserError(
            f"The corpus has {examples:,} training {what}, fewer than one batch of "
            f"data.batch_size={batch_size}. Choose a smaller batch_size, or prepare a "
            "corpus with more of them (its report.json says what was dropped and why)."
        )


@dataclass(frozen=True)
class Plan(StepPlan):
    """How ``examples`` fill the optimiser steps of a run.

    Args:
        examples: number of examples in an epoch.
        batch_size: examples per optimiser step over all ranks.
        seed: of the order; each epoch has its own.
        world_size: ranks that share a step.
        queries: the query of each example, where those of one query are to stay together; None
            to shuffle each example by itself. Queries are then shuffled whole: a step ends inside
            at most one of them, whose other examples begin the next step.

    Raises:
        UserError: the ranks cannot share a step evenly, or an epoch has less than one step.
    """

    examples: int
    batch_size: int
    seed: int
    world_size: int = 1
    queries: np.ndarray | None = field(default=None, repr=False, compare=False)
    _order: dict[int, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_batch(self.examples, self.batch_size, self.world_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; the examples that fill no step wait for the next order."""
        return self.examples // self.batch_size

    @property
    def left_out(self) -> int:
        """Examples that an epoch does not use, different ones in each epoch."""
        return self.examples % self.batch_size

    def indices(self, step: int) -> np.ndarray:
        """See `StepPlan`."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.batch_size
        return self.order(epoch)[start : start + self.batch_size]

    def order(self, epoch: int) -> np.ndarray:
        """All examples in the order of an epoch, int64."""
        if epoch not in self._order:  # a cache of one epoch's order
            self._order.clear()
            if self.queries is None:
                self._order[epoch] = epoch_order(self.examples, self.seed, epoch)
            else:
                self._order[epoch] = grouped_order(self.queries, self.seed, epoch)
        return self._order[epoch]


def uneven_batch(batch_size: int, world_size: int, least: int = 1) -> UserError:
    """The error for a batch that the ranks cannot share, with sizes of ``least`` or more."""
    below = batch_size // world_size * world_size
    choices = [n for n in (below, below + world_size) if n >= least] or [least]
    return UserError(
        f"batch_size={batch_size} cannot be shared by {world_size} ranks; use a multiple of "
        f"{world_size}, such as {' or '.join(map(str, choices))}."
    )


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: a permutation of ``range(examples)``, int64."""
    return np.random.default_rng((seed, epoch)).permutation(examples)


def grouped_order(queries: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """An order of an epoch in which the examples of a query are neighbours, int64.

    The queries are shuffled; the examples of one keep the order in which they are stored.
    """
    _, query = np.unique(queries, return_inverse=True)
    positions = np.random.default_rng((seed, epoch)).permutation(int(query.max()) + 1)
    return np.argsort(positions[query.reshape(-1)], kind="stable")
