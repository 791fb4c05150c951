"""Rows of long arrays a block at a time, so that no second array of their length is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # rows


def blocks(count: int) -> Iterator[slice]:
    """Slices of so many rows, in order."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def keep_rows(rows: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[Any]:
    """The rows ``[N, ...]`` where ``keep`` ``[N]`` is true, compacted in place."""
    n_kept = 0
    for block in blocks(len(rows)):
        chosen = rows[block][keep[block]]
        rows[n_kept : n_kept + len(chosen)] = chosen
        n_kept += len(chosen)
    return rows[:n_kept]


def unpacked(keys: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    """The pairs ``[E, 2]`` of keys ``a * n + b``, in place: the keys are overwritten."""
    rows = keys.view(np.int32).reshape(-1, 2)
    for block in blocks(len(keys)):
        a, b = np.divmod(keys[block], max(n, 1))
        rows[block, 0], rows[block, 1] = a, b
    return rows


def release_unused() -> None:
    """Give back to the system what Arrow keeps for later, often hundreds of megabytes."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
