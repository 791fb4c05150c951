"""What a task is scored from, and what comes back: vectors by id, metrics by name.

Shapes: ``P`` texts, ``K`` of them, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from sciembed_train.evaluation.benchmarks.result import Result
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import Task
from sciembed_train.evaluation.distances import to_unit
from sciembed_train.inference.options import Similarity


class Vectors:
    """Vectors of texts by their ids."""

    def __init__(self, ids: Iterable[str], rows: Float32[np.ndarray, "P D"]) -> None:
        self.positions = {name: i for i, name in enumerate(ids)}
        self.rows = rows

    def __contains__(self, name: str) -> bool:
        return name in self.positions

    def of(self, ids: Iterable[str]) -> Float32[np.ndarray, "K D"]:
        """The vectors of texts, all of which are there."""
        return self.rows[np.array([self.positions[name] for name in ids], dtype=np.int64)]

    def as_unit(self) -> Vectors:
        """The same, each vector divided by its length; see `distances.to_unit`."""
        rows = self.rows.copy()
        to_unit(rows)
        return Vectors(self.positions, rows)


@runtime_checkable
class Scorer(Protocol):
    """A task with its labels, which were read before anything is embedded."""

    task: Task

    def wanted(self) -> tuple[set[str], set[str]]:
        """Ids of the queries, and of the other texts, that it needs the vectors of."""
        ...

    def asked(self) -> set[str]:
        """Ids of the queries of a ranking, or of the test set of a probe."""
        ...

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Result:
        """The scores of the vectors; rankings compare them by ``similarity``.

        Raises:
            UserError: too few of the texts were there.
        """
        ...
