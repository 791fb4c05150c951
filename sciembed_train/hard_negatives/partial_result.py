"""The result so far of a mining that may be killed: block after block, on disk.

A folder beside the negatives: arrays of their full size, ``done.json`` (the queries that are done)
and ``plan.json`` (all that the result depends on). Blocks begin and end where the plan says, so
that a mining that continues gives the same bits as one that was not killed.

Shapes: ``Q`` queries, ``K`` negatives of a query, ``n`` positives of all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.errors import UserError
from sciembed_train.full_disk import new_array
from sciembed_train.hard_negatives.block import COUNTS, Block
from sciembed_train.inference.output_file import write_json

_CHANGES = {
    "version": "another version of this program",
    "vectors": "other vectors",
    "examples": "another corpus",
    "rules": "other settings",
}


class PartialResult:
    """The arrays of a mining, and how many queries are done.

    Args:
        folder: where they lie.
        plan: what the result depends on, by the names in `_CHANGES`.
        shape: ``Q``, ``K`` and ``n``.
        restart: discard what another plan left.

    Raises:
        UserError: an unfinished mining of another plan lies there.
    """

    def __init__(
        self,
        folder: Path,
        plan: Mapping[str, Any],
        shape: tuple[int, int, int],
        restart: bool = False,
    ) -> None:
        self.folder = folder
        if restart:
            shutil.rmtree(folder, ignore_errors=True)
        done = self._done_before(plan)
        if done is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        queries, count, positives = shape
        new = done is None
        self.papers = self._array("papers", new, np.int32, (queries, count))
        self.scores = self._array("scores", new, np.float32, (queries, count))
        self.limits = self._array("limits", new, np.float32, (queries,))
        self.counts = self._array("counts", new, np.int64, (queries, COUNTS))
        self.positives = self._array("positives", new, np.float32, (positives,))
        self.done = done or 0
        if done is None:
            self._write_done()
            write_json(folder / "plan.json", dict(plan))  # last: with it, the folder is complete

    def add(self, block: Block, start: int, stop: int, first_positive: int) -> None:
        """Write the block of the queries ``start`` to ``stop - 1``; it is on disk afterwards."""
        self.papers[start:stop], self.scores[start:stop] = block.papers, block.scores
        self.limits[start:stop], self.counts[start:stop] = block.limit, block.counts
        self.positives[first_positive : first_positive + len(block.positives)] = block.positives
        for array in (self.papers, self.scores, self.limits, self.counts, self.positives):
            array.flush()
        self.done = stop
        self._write_done()

    def remove(self) -> None:
        """Remove the folder: the result is written elsewhere."""
        shutil.rmtree(self.folder)

    def _write_done(self) -> None:
        write_json(self.folder / "done.json", {"queries": self.done})

    def _array(
        self, name: str, new: bool, kind: type[np.generic], shape: tuple[int, ...]
    ) -> np.memmap:
        path = self.folder / f"{name}.npy"
        return new_array(path, kind, shape) if new else np.lib.format.open_memmap(path, "r+")

    def _done_before(self, plan: Mapping[str, Any]) -> int | None:
        """Queries that an unfinished mining of the same plan has done; None where there is none."""
        try:
            earlier = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
            done = json.loads((self.folder / "done.json").read_text(encoding="utf-8"))["queries"]
        except (OSError, ValueError, KeyError):
            return None
        changes = [text for key, text in _CHANGES.items() if earlier.get(key) != plan[key]]
        if changes:
            raise UserError(
                f"{self.folder} holds an unfinished mining with {' and '.join(changes)}. Finish "
                "that one with its own command, give another --name, or discard it with --restart."
            )
        return done
