"""A user's file of papers, checked whole before anything is computed, then streamed."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper, read_paper


class PaperFile:
    """Papers of a file in its order; every row was read once and found good, or left out.

    Memory: 8 bytes a paper, for finding ids that are given twice.

    Args:
        source: file, folder of files or dataset, as `Table`.
        max_bad_rows: malformed rows (an id given twice among them) that are left out before the
            file is refused.

    Raises:
        UserError: no such file, or more malformed rows; the message names the first of each kind.
    """

    def __init__(self, source: str | Path, max_bad_rows: int = 0) -> None:
        self.table = Table(source, "papers")
        self.audit = Audit("papers", max_bad_rows)
        self.without_text = 0
        self._left_out: set[int] = set()  # places of ids that were given before
        hashes = array("Q")
        for place, row in self.table.rows():
            self.audit.rows += 1
            paper = row if isinstance(row, BadRow) else read_paper(row)
            if isinstance(paper, BadRow):
                self.audit.bad(paper, self.table.where(place))
                continue
            hashes.append(_hash(paper.paper_id))
            self.without_text += not has_text(paper.title, paper.abstract)
        values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
        if (counts > 1).any():
            self._find_twice({int(value) for value in values[counts > 1]})
        self.audit.kept = len(hashes) - len(self._left_out)
        self.audit.check()

    def __len__(self) -> int:
        return self.audit.kept

    def __iter__(self) -> Iterator[Paper]:
        for _, _, paper in self.with_rows():
            yield paper

    def with_rows(self) -> Iterator[tuple[int, Mapping[str, Any], Paper]]:
        """The papers with their place and the whole row, as the file has it."""
        for place, row in self.table.rows():
            if isinstance(row, BadRow) or place in self._left_out:
                continue
            paper = read_paper(row)
            if not isinstance(paper, BadRow):
                yield place, row, paper

    def _find_twice(self, suspects: set[int]) -> None:
        first: dict[str, int] = {}
        for place, _, paper in self.with_rows():
            if _hash(paper.paper_id) not in suspects:
                continue
            if paper.paper_id not in first:
                first[paper.paper_id] = place
                continue
            self._left_out.add(place)
            before = self.table.where(first[paper.paper_id])
            message = f"`paper_id` {paper.paper_id!r} was given before, at {before}."
            self.audit.bad(BadRow("an id given twice", message), self.table.where(place))


def _hash(paper_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(paper_id.encode(), digest_size=8).digest(), "little")
