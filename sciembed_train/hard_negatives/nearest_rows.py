"""The highest scores of each query over tiles of rows: exact, in bounded memory.

A tile's scores that are not above a query's least kept score are passed over by one comparison, so
that sorting touches about ``K log(R / K)`` scores of a query and not ``R``.

Shapes: ``B`` queries, ``R`` rows in all, ``T`` rows of a tile, ``K`` scores kept of a query, ``F``
scores of a tile above the least.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

# Scores that are buffered before they are sorted in, for each place of a query.
FULL, CROWDED = 1, 8


class NearestRows:
    """The ``K`` highest scores of each query so far; of equal ones those of the lower rows.

    Args:
        queries: ``B``.
        kept: ``K``.
    """

    def __init__(self, queries: int, kept: int) -> None:
        self.kept = kept
        self.scores = np.full((queries, kept), -np.inf, np.float32)
        self.rows = np.full((queries, kept), -1, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._counts = np.zeros(queries, np.int64)

    def add(self, scores: Float32[Tensor, "B T"], first: int) -> None:
        """Take the scores of the rows ``first``, ``first + 1``, ...: after those of lower rows.

        Scores of minus infinity are never kept.
        """
        query, column = self._above(scores)
        place = torch.from_numpy(query * scores.shape[1] + column).to(scores.device)
        values = scores.reshape(-1)[place].cpu().numpy()
        self._waiting.append((query.astype(np.int32), values, first + column))
        self._counts += np.bincount(query, minlength=len(self._counts))
        room = self.kept * len(self._counts)
        if self._counts.sum() > FULL * room or self._counts.max() > CROWDED * self.kept:
            self._merge()

    def result(self) -> tuple[Float32[np.ndarray, "B K"], Int64[np.ndarray, "B K"]]:
        """Scores from the highest, and their rows; minus infinity and -1 after the last."""
        self._merge()
        return self.scores, self.rows

    def _above(
        self, scores: Float32[Tensor, "B T"]
    ) -> tuple[Int64[np.ndarray, " F"], Int64[np.ndarray, " F"]]:
        """Query and column of each score that may be among the highest, query by query."""
        width = scores.shape[1]
        least = torch.from_numpy(self.scores[:, -1]).to(scores.device)
        places = np.flatnonzero((scores > least[:, None]).cpu().numpy())
        if len(places) > 2 * FULL * self.scores.size and width > self.kept:
            # The first tile: no more of it than may be kept.
            of_tile = scores.topk(self.kept, dim=1).values[:, -1]
            above = (scores > least[:, None]) & (scores >= of_tile[:, None])
            places = np.flatnonzero(above.cpu().numpy())
        query, column = np.divmod(places, width)
        return query, column

    def _merge(self) -> None:
        """Sort the buffered scores in."""
        if not self._waiting:
            return
        query, scores, rows = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
        self._waiting = []
        # By query; the stable sort keeps those of one in the order of their rows.
        order = np.argsort(query, kind="stable")
        query = query[order]
        widest = int(self._counts.max())
        column = np.arange(len(query)) - np.repeat(
            np.cumsum(self._counts) - self._counts, self._counts
        )
        new_scores = np.full((len(self._counts), widest), -np.inf, np.float32)
        new_rows = np.full((len(self._counts), widest), -1, np.int64)
        new_scores[query, column], new_rows[query, column] = scores[order], rows[order]
        self._counts[:] = 0
        all_scores = np.concatenate([self.scores, new_scores], axis=1)
        all_rows = np.concatenate([self.rows, new_rows], axis=1)
        best = np.argsort(-all_scores, axis=1, kind="stable")[:, : self.kept]
        self.scores = np.take_along_axis(all_scores, best, axis=1)
        self.rows = np.take_along_axis(all_rows, best, axis=1)
