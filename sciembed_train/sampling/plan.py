"""How examples fill the steps of a run: pure functions of (seed, epoch, step, rank).

Nothing here keeps a state, so workers, ranks and restarts cannot change the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class Plan:
    """How ``examples`` fill the optimiser steps of a run.

    Args:
        examples: number of examples in an epoch.
        batch_size: examples per optimiser step over all ranks.
        seed: of the order; each epoch has its own.
        world_size: ranks that share a step.

    Raises:
        UserError: the ranks cannot share a step evenly, or an epoch has less than one step.
    """

    examples: int
    batch_size: int
    seed: int
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"data.batch_size must be 1 or more; got {self.batch_size}.")
        if self.batch_size % self.world_size:
            raise UserError(_uneven(self.batch_size, self.world_size))
        if self.examples < self.batch_size:
            raise UserError(
                f"The corpus has {self.examples:,} training examples, fewer than one batch of "
                f"data.batch_size={self.batch_size}. Choose a smaller batch_size, or prepare a "
                "corpus with more of them (its report.json says what was dropped and why)."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; the examples that fill no step wait for the next order."""
        return self.examples // self.batch_size

    @property
    def left_out(self) -> int:
        """Examples that an epoch does not use, others in each epoch."""
        return self.examples % self.batch_size

    def indices(self, step: int, order: np.ndarray | None = None) -> np.ndarray:
        """The examples of one step over all ranks, int64 ``[batch_size]``.

        Args:
            step: counted from 0 over the whole run.
            order: `epoch_order` of the step's epoch, where the caller keeps it.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        if order is None:
            order = epoch_order(self.examples, self.seed, epoch)
        start = within * self.batch_size
        return order[start : start + self.batch_size]

    def share(self, rank: int) -> slice:
        """Which of a step's examples are one rank's.

        Each rank takes a contiguous block: together they have what one process would have, in
        the same order.
        """
        size = self.batch_size // self.world_size
        return slice(rank * size, (rank + 1) * size)


def _uneven(batch_size: int, world_size: int) -> str:
    below = batch_size // world_size * world_size
    choices = [str(n) for n in (below, below + world_size) if n]
    return (
        f"batch_size={batch_size} cannot be shared by {world_size} ranks; use a multiple of "
        f"{world_size}, such as {' or '.join(choices)}."
    )


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: a permutation of ``range(examples)``, int64."""
    return np.random.default_rng((seed, epoch)).permutation(examples)
