"""How the examples of several tasks fill the steps of a run.

Every rank has every task in every step, so that no adapter and no head is ever without a gradient
on one rank alone (SciRepEval's own batches give the ranks different tasks). A step is made of
*slices*: each has the same number of examples of every task, and a rank takes whole
slices. There are eight slices where the step is large enough, else four or two, so that 1, 2, 4 and
8 ranks make the very same steps as far as they can share them.

The examples of all tasks are numbered through, task after task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.sampling.plan import StepPlan, uneven_batch

SLICES = (8, 4, 2, 1)  # how many a step may have, where the ranks do not ask for another number
ORDER = 5  # of the draws, beside the other streams

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TaskPlan(StepPlan):
    """How the examples of tasks fill the optimiser steps of a run.

    A task gives each step the same number of its examples, in proportion to how many it has (of
    which ``cap`` count at most: Raffel et al. 2020, section 3.5.2), and one a slice at least.
    Each task goes through its own examples in an order of its own, drawn anew each time, and begins
    again when it has come to their end. An epoch ends when every task has gone through all its
    examples once, or through ``cap`` of them.

    Args:
        names: of the tasks, for messages.
        sizes: training examples of each, at least 1.
        batch_size: examples per optimiser step over all ranks.
        seed: of the orders.
        world_size: ranks that share a step.
        cap: examples of a task that count at most; None for all.

    Raises:
        UserError: the ranks cannot share a step so that each has every task, or a task has fewer
            examples than it gives to a step.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    batch_size: int
    seed: int
    world_size: int = 1
    cap: int | None = None
    examples: int = field(init=False)
    quotas: tuple[int, ...] = field(init=False)
    slices: int = field(init=False)
    _orders: dict[int, tuple[int, Ints]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_shares(len(self.names), self.batch_size, self.world_size)
        object.__setattr__(self, "examples", sum(self.sizes))
        message = ""
        for slices in (*SLICES, self.world_size):
            whole = slices % self.world_size == 0 and self.batch_size % slices == 0
            if not whole or slices * len(self.names) > self.batch_size:
                continue
            quotas = [n * slices for n in units(self.counted, self.batch_size // slices)]
            dry = next((i for i, size in enumerate(self.sizes) if size < quotas[i]), None)
            if dry is None:
                object.__setattr__(self, "slices", slices)
                object.__setattr__(self, "quotas", tuple(quotas))
                object.__setattr__(self, "_orders", {})
                return
            message = (
                f"Task {self.names[dry]} runs dry: it gives {quotas[dry]} examples to a step of "
                f"data.batch_size={self.batch_size}, and has {self.sizes[dry]:,} training "
                "examples. Choose a smaller batch_size, give it more examples, or take it out of "
                "the list of tasks."
            )
        raise UserError(message)

    @property
    def counted(self) -> tuple[int, ...]:
        """Examples of each task that an epoch counts."""
        return tuple(min(size, self.cap or size) for size in self.sizes)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps until every task has gone through its counted examples."""
        pairs = zip(self.counted, self.quotas, strict=True)
        return max(1, *(count // quota for count, quota in pairs))

    @property
    def left_out(self) -> int:
        """Examples that an epoch does not use, different ones in each epoch."""
        used = (self.steps_per_epoch * quota for quota in self.quotas)
        return sum(max(0, size - n) for size, n in zip(self.sizes, used, strict=True))

    def indices(self, step: int) -> Ints:
        """The examples of one step over all ranks, ``[batch_size]``, slice after slice."""
        parts, first = [], 0
        for task, (size, quota) in enumerate(zip(self.sizes, self.quotas, strict=True)):
            examples = self._of(task, step * quota, quota) + first
            parts.append(examples.reshape(self.slices, -1))
            first += size
        return np.concatenate(parts, axis=1).reshape(-1)

    def _of(self, task: int, start: int, count: int) -> Ints:
        """``count`` examples of a task, from the ``start``-th that the run takes of it."""
        parts = []
        while count:
            turn, at = divmod(start, self.sizes[task])
            part = self._order(task, turn)[at : at + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _order(self, task: int, turn: int) -> Ints:
        """The order in which a task goes through its examples for the ``turn``-th time."""
        cached = self._orders.get(task)
        if cached is None or cached[0] != turn:
            draws = np.random.default_rng((self.seed, ORDER, task, turn))
            cached = self._orders[task] = turn, draws.permutation(self.sizes[task])
        return cached[1]


@dataclass(frozen=True)
class PublishedPlan(StepPlan):
    """SciRepEval's own order: round robin over the tasks, and no shuffling.

    Of ``n`` tasks that are not at their end, each gives ``round(batch_size / n)`` examples in its
    turn, in the order of the corpus; one at its end is left out from then on. A step is the next
    ``batch_size`` examples, and an epoch ends when the last task does. The last steps of an epoch
    have few tasks: this is for one process, where a task may be absent.

    Args:
        names: of the tasks, for messages.
        sizes: training examples of each.
        batch_size: examples per optimiser step.
        world_size: must be 1.

    Raises:
        UserError: there are several ranks, or a turn would give nothing.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    batch_size: int
    world_size: int = 1
    examples: int = field(init=False)
    order: Ints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tasks = len(self.names)
        if self.world_size > 1:
            raise UserError(
                f"data.sampling.reproduce gives steps without some tasks, which {self.world_size} "
                "ranks cannot share: train in one process, or leave it out."
            )
        if not round(self.batch_size / tasks):
            raise UserError(
                f"data.sampling.reproduce gives round(batch_size / tasks) = round("
                f"{self.batch_size} / {tasks}) = 0 examples of a task: choose a data.batch_size of "
                f"{tasks} or more."
            )
        object.__setattr__(self, "examples", sum(self.sizes))
        object.__setattr__(self, "order", round_robin(self.sizes, self.batch_size))
        if len(self.order) < self.batch_size:
            raise UserError(
                f"The tasks have {len(self.order):,} training examples, fewer than one batch of "
                f"data.batch_size={self.batch_size}. Choose a smaller batch_size."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return len(self.order) // self.batch_size

    @property
    def left_out(self) -> int:
        """Examples that no epoch uses: the last, which fill no step."""
        return len(self.order) % self.batch_size

    def indices(self, step: int) -> Ints:
        """The examples of one step, ``[batch_size]``."""
        start = step % self.steps_per_epoch * self.batch_size
        return self.order[start : start + self.batch_size]


def check_shares(tasks: int, batch_size: int, world_size: int) -> None:
    """Raise UserError, naming a batch size, unless every rank has every task in every step."""
    if batch_size % world_size:
        raise uneven_batch(batch_size, world_size, least=tasks * world_size)
    if batch_size < tasks * world_size:
        ranks = f"{world_size} ranks" if world_size > 1 else "one rank"
        raise UserError(
            f"data.batch_size={batch_size} leaves some of the {tasks} tasks without an example in "
            f"a step of {ranks}: every rank has every task in every step. Choose a batch_size of "
            f"{tasks * world_size} or more."
        )


def units(counts: Sequence[int], total: int) -> list[int]:
    """``total`` units shared in proportion to ``counts``, each at least 1.

    One unit after the other goes to the share that is furthest below its proportion.
    """
    exact = [total * count / sum(counts) for count in counts]
    shares = [1] * len(counts)
    for _ in range(total - len(counts)):
        owed = [want - have for want, have in zip(exact, shares, strict=True)]
        shares[owed.index(max(owed))] += 1
    return shares


def round_robin(sizes: Sequence[int], batch_size: int) -> Ints:
    """The published order of an epoch, ``[sum(sizes)]``."""
    range_starts = np.cumsum([0, *sizes[:-1]])
    at = [0] * len(sizes)
    live = [task for task, size in enumerate(sizes) if size]
    parts: list[Ints] = []
    while live:
        turn = round(batch_size / len(live))
        for task in live:
            end = min(at[task] + turn, sizes[task])
            parts.append(np.arange(at[task], end) + range_starts[task])
            at[task] = end
        live = [task for task in live if at[task] < sizes[task]]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
