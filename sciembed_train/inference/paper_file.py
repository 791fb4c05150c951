"""A user's file of papers, checked whole before anything is computed, then streamed."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
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


@dataclass(frozen=True)
class CheckedRows:
    """What the check of a file found, so that another process need not make it again.

    Args:
        papers: of each file.
        duplicates: places of the rows whose id came before.
        without_text: papers with neither title nor abstract.
        malformed: rows that are left out, duplicates among them.
        notes: what to say of the texts.
    """

    papers: Sequence[int]
    duplicates: Sequence[int]
    without_text: int
    malformed: int
    notes: Sequence[str]


class PaperFile:
    """The papers of a file in its order; every row was checked once, malformed ones are left out.

    Memory: 8 bytes a paper, for finding duplicate ids.

    Args:
        source: file, folder of files or dataset, as `Table`.
        max_bad_rows: malformed rows (duplicate ids among them) that are left out before the
            file is refused.
        checked: what an earlier check of the same files found; they are not checked again.

    Attributes:
        without_text: papers with neither title nor abstract.
        malformed: malformed rows that are left out.
        notes: what to say of the texts.

    Raises:
        UserError: no such file, or more malformed rows; the message names the first of each kind.
    """

    def __init__(
        self, source: str | Path, max_bad_rows: int = 0, checked: CheckedRows | None = None
    ) -> None:
        self.table = Table(source, "papers", readers=PAPER_READERS)
        self.paper_rows = PaperRows(self.table)
        self._duplicates: set[int] = set()  # places of their rows
        checked = self._check(max_bad_rows) if checked is None else checked
        self._duplicates = set(checked.duplicates)
        self.checked = checked
        self.without_text, self.malformed = checked.without_text, checked.malformed
        self.notes = list(checked.notes)
        self._firsts = list(accumulate(checked.papers, initial=0))  # paper of each file, and all

    def _check(self, max_bad_rows: int) -> CheckedRows:
        """Read every row once."""
        audit = Audit("papers", max_bad_rows, self.table)
        without_text, markup = 0, MarkupCount()
        papers: Counter[int] = Counter()  # of each file
        hashes = array("Q")
        for row_number, _, paper in self._rows():
            audit.rows += 1
            if isinstance(paper, BadRow):
                audit.bad(paper, self.table.where(row_number))
                continue
            hashes.append(_hash(paper.paper_id))
            papers[self.table.file_number(row_number)] += 1
            without_text += not has_text(paper.title, paper.abstract)
            markup.add(self.table.where, row_number, paper.title, *paper.sentences)
        values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
        if (counts > 1).any():
            self._find_duplicates({int(value) for value in values[counts > 1]}, audit)
        papers.subtract(map(self.table.file_number, self._duplicates))
        audit.kept = len(hashes) - len(self._duplicates)
        audit.check()
        return CheckedRows(
            papers=[papers[number] for number, _ in self.table.numbered_files()],
            duplicates=sorted(self._duplicates),
            without_text=without_text,
            malformed=audit.n_bad,
            notes=[
                *(f"{d.count:,} rows are left out: {why}." for why, d in audit.dropped.items()),
                *audit.notes,
                *markup.notes(),
            ],
        )

    def __len__(self) -> int:
        return self._firsts[-1]

    @property
    def source(self) -> str:
        """Where the papers come from, for messages."""
        return self.table.source

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file, as `Table.checksums`."""
        return self.table.checksums()

    def __iter__(self) -> Iterator[Paper]:
        return self.since(0)

    def since(self, number: int) -> Iterator[Paper]:
        """The papers from one with this number on, counted from 0; earlier files are not read."""
        file = self.file_of(number)
        papers = (paper for _, _, paper in self.with_rows(file))
        return islice(papers, number - self._firsts[file], None)

    def file_of(self, number: int) -> int:
        """The number of the file that has a paper; of one after all, the last file's."""
        last = len(self._firsts) - 2
        return min(int(np.searchsorted(self._firsts, number, side="right")) - 1, last)

    def with_rows(self, first_file: int = 0) -> Iterator[tuple[int, Mapping[str, Any], Paper]]:
        """The papers with their row number and the whole row, as the file has it.

        Those of files before the one with the number ``first_file`` are left out.
        """
        for row_number, row, paper in self._rows(first_file):
            if not isinstance(paper, BadRow) and row_number not in self._duplicates:
                yield row_number, row, paper

    def _rows(self, first_file: int = 0) -> Iterator[tuple[int, Mapping[str, Any], Paper | BadRow]]:
        for row_number, row, paper in self.paper_rows.rows(first_file):
            if isinstance(paper, Paper) and paper.completes:
                yield row_number, row, ABSTRACT_ALONE
            else:
                yield row_number, row, paper

    def _find_duplicates(self, suspect_hashes: set[int], audit: Audit) -> None:
        first: dict[str, int] = {}
        for row_number, _, paper in self.with_rows():
            if _hash(paper.paper_id) not in suspect_hashes:
                continue
            if paper.paper_id not in first:
                first[paper.paper_id] = row_number
                continue
            self._duplicates.add(row_number)
            before = self.table.where(first[paper.paper_id])
            message = f"`paper_id` {paper.paper_id!r} was given before, at {before}."
            audit.bad(BadRow("an id given twice", message), self.table.where(row_number))


def _hash(paper_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(paper_id.encode(), digest_size=8).digest(), "little")
