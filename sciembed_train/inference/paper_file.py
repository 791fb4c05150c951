"""A user's file of papers, checked whole before anything is computed, then streamed."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.registry import PAPER_READERS
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper
from sciembed_train.text.cleaning import MarkupCount

ABSTRACT_ALONE = BadRow(
    "an abstract without its title",
    "this row only adds an abstract to the paper of another row, and papers are read one by one "
    "here. Give one file with titles and abstracts; `prepare` joins them.",
)


class PaperFile:
    """The papers of a file in its order; every row was checked once, malformed ones are left out.

    Memory: 8 bytes a paper, for finding duplicate ids.

    Args:
        source: file, folder of files or dataset, as `Table`.
        max_bad_rows: malformed rows (duplicate ids among them) that are left out before the
            file is refused.

    Raises:
        UserError: no such file, or more malformed rows; the message names the first of each kind.
    """

    def __init__(self, source: str | Path, max_bad_rows: int = 0) -> None:
        self.table = Table(source, "papers", readers=PAPER_READERS)
        self.paper_rows = PaperRows(self.table)
        self.audit = Audit("papers", max_bad_rows, self.table)
        self.without_text = 0
        markup = MarkupCount()
        self._left_out: set[int] = set()  # row numbers of duplicate ids
        hashes = array("Q")
        for row_number, _, paper in self._rows():
            self.audit.rows += 1
            if isinstance(paper, BadRow):
                self.audit.bad(paper, self.table.where(row_number))
                continue
            hashes.append(_hash(paper.paper_id))
            self.without_text += not has_text(paper.title, paper.abstract)
            markup.add(self.table.where, row_number, paper.title, *paper.sentences)
        values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
        if (counts > 1).any():
            self._find_duplicates({int(value) for value in values[counts > 1]})
        self.audit.kept = len(hashes) - len(self._left_out)
        self.audit.check()
        self.audit.notes += markup.notes()

    def __len__(self) -> int:
        return self.audit.kept

    @property
    def source(self) -> str:
        """Where the papers come from, for messages."""
        return self.table.source

    @property
    def malformed(self) -> int:
        """Malformed rows that are left out."""
        return self.audit.n_bad

    @property
    def notes(self) -> list[str]:
        """What to say of the texts."""
        return self.audit.notes

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file, as `Table.checksums`."""
        return self.table.checksums()

    def __iter__(self) -> Iterator[Paper]:
        for _, _, paper in self.with_rows():
            yield paper

    def with_rows(self) -> Iterator[tuple[int, Mapping[str, Any], Paper]]:
        """The papers with their row number and the whole row, as the file has it."""
        for row_number, row, paper in self._rows():
            if not isinstance(paper, BadRow) and row_number not in self._left_out:
                yield row_number, row, paper

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any], Paper | BadRow]]:
        for row_number, row, paper in self.paper_rows.rows():
            if isinstance(paper, Paper) and paper.completes:
                yield row_number, row, ABSTRACT_ALONE
            else:
                yield row_number, row, paper

    def _find_duplicates(self, suspect_hashes: set[int]) -> None:
        first: dict[str, int] = {}
        for row_number, _, paper in self.with_rows():
            if _hash(paper.paper_id) not in suspect_hashes:
                continue
            if paper.paper_id not in first:
                first[paper.paper_id] = row_number
                continue
            self._left_out.add(row_number)
            before = self.table.where(first[paper.paper_id])
            message = f"`paper_id` {paper.paper_id!r} was given before, at {before}."
            self.audit.bad(BadRow("an id given twice", message), self.table.where(row_number))


def _hash(paper_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(paper_id.encode(), digest_size=8).digest(), "little")
