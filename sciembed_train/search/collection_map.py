"""A map of a collection: papers as points of a plane, by the two principal components of vectors.

Shapes: ``M`` papers of the map, ``D`` width, ``U`` vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

LARGEST = 5000  # papers


@dataclass(frozen=True)
class CollectionMap:
    """Papers as points.

    Args:
        rows: of the papers in the index ``[M]``.
        points: of them ``[M, 2]``.
        mean: of their vectors ``[D]``.
        axes: the principal components ``[2, D]``.
        share: of the variance of the vectors, how much the map shows.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    share: float

    @classmethod
    def of(cls, rows: NDArray[np.int64], vectors: Float32[np.ndarray, "M D"]) -> CollectionMap:
        """The map of some papers by their vectors."""
        mean = vectors.mean(0, dtype=np.float64)
        centred = vectors - mean
        values, components = np.linalg.eigh(centred.T @ centred)
        axes = np.zeros((2, vectors.shape[1]))
        principal = components[:, ::-1][:, :2].T
        # The sign of a component is arbitrary; fixed, so that a map looks the same each time.
        largest = np.abs(principal).argmax(1)
        axes[: len(principal)] = (
            principal * np.sign(principal[np.arange(len(principal)), largest])[:, None]
        )
        total = float(values.clip(0).sum())
        share = float(values[-2:].clip(0).sum()) / total if total > 0 else 0.0
        mean, axes = mean.astype(np.float32), axes.astype(np.float32)
        return cls(rows, (vectors - mean) @ axes.T, mean, axes, share)

    def place(self, vectors: Float32[np.ndarray, "U D"]) -> Float32[np.ndarray, "U 2"]:
        """Where other vectors lie on the map."""
        return (vectors - self.mean) @ self.axes.T

    def save(self, path: Path) -> None:
        """Write it as an ``.npz`` file."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> CollectionMap:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("rows", "points", "mean", "axes")}
            return cls(**arrays, share=float(file["share"]))
