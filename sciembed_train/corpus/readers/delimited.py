"""Rows of CSV and TSV files, each with the line on which it starts."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers.files import kind_of, not_utf8, open_bytes, reading, without_mark
from sciembed_train.corpus.validation import BadRow
from sciembed_train.errors import UserError


def _delimited(path: Path) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Rows of a CSV or TSV file, each with the line on which it starts."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = _Lines(path)
    stream = lines.read()
    delimiter = "\t" if kind_of(path) == "tsv" else ","
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.ended:
                raise UserError(
                    f"{path}:{start}: a quotation mark opens here and never closes. Close it, or "
                    "put the text in quotation marks and write each one inside it twice."
                ) from error
            yield start, BadRow("not a row", f"this is not a row of {kind_of(path)}: {error}.")
            # The reader keeps what it had read of the broken row; a new one starts afresh.
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            continue
        if lines.broken is not None:
            yield lines.broken
            lines.broken = None
        elif cells:
            yield start, cells


class _Lines:
    """Decoded lines for the csv reader, and where it is; a line that is not UTF-8 is set aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.ended = False
        self.broken: tuple[int, BadRow] | None = None

    def read(self) -> Iterator[str]:
        with reading(self.path), open_bytes(self.path) as file:
            for raw in file:
                self.number += 1
                if self.number == 1:
                    raw = without_mark(raw, self.path)
                try:
                    yield raw.decode()
                except UnicodeDecodeError as error:
                    self.broken = self.number, not_utf8(error)
                    yield "\n"
        self.ended = True


def delimited_rows(
    path: Path, needed: Collection[str]
) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """Rows by the names in the first line, one of which must be among ``needed`` if any are."""
    names: list[str] | None = None
    for line, cells in _delimited(path):
        if isinstance(cells, BadRow):
            yield line, cells
        elif names is None:
            names = [cell.strip() for cell in cells]
            twice = {n for n in names if n and names.count(n) > 1}
            if twice:
                raise UserError(f"{path}:{line}: two columns are called {sorted(twice)[0]!r}.")
            if needed and not set(needed) & set(names):
                wanted = " or ".join(f"`{name}`" for name in needed)
                raise UserError(
                    f"{path}:{line}: the first line names the columns, and {wanted} is not "
                    f"among them: {', '.join(names)[:200]}."
                )
        elif len(cells) != len(names):
            yield line, _wrong_count(len(cells), f"the header has {len(names)}")
        else:
            yield line, dict(zip(names, cells, strict=True))


def delimited_cells(
    path: Path, names: Sequence[str], aliases: Sequence[str]
) -> Iterator[tuple[int, Sequence[Any] | BadRow]]:
    """The named columns of every row, with or without a header line."""
    columns = list(range(len(names)))
    need = len(names)
    plain = True  # the columns wanted are the first ones
    first = True
    for line, cells in _delimited(path):
        if isinstance(cells, BadRow):
            yield line, cells
            continue
        if first:
            first = False
            header = [cell.strip().lower() for cell in cells]
            found = next(
                (set_ for set_ in (names, aliases) if set_ and set(set_) <= set(header)), None
            )
            if found is not None:
                columns = [header.index(name) for name in found]
                need = max(columns) + 1
                plain = columns == list(range(len(names)))
                continue
        if len(cells) < need:
            yield line, _wrong_count(len(cells), f"expected {', '.join(names)}")
        else:
            yield line, cells[:need] if plain else [cells[c] for c in columns]


def _wrong_count(n: int, expected: str) -> BadRow:
    columns = "1 column" if n == 1 else f"{n} columns"
    return BadRow("wrong number of columns", f"this row has {columns}; {expected}.")
