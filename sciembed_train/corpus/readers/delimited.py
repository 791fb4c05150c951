"""CSV and TSV files, each row with the line on which it starts.

Where the first line lacks the delimiter of the file's ending, another one that it has is taken:
spreadsheets of many countries write semicolons into ``.csv``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import Cells, FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import (
    MAX_LINE,
    decoded,
    open_bytes,
    raw_lines,
    read_lines,
    reading,
    too_long,
)
from sciembed_train.corpus.readers.line_faults import CR_ALONE
from sciembed_train.errors import UserError

DELIMITERS = (",", ";", "\t")
_QUOTED = re.compile(r'"[^"]*"')


class Delimited(FileReader):
    """Reads files of cells between delimiters, in quotation marks where needed."""

    has_columns = True

    def __init__(self, delimiter: str, name: str) -> None:
        self.delimiter, self.name = delimiter, name

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Rows by the names in the first line."""
        names: list[str] | None = None
        for line, cells in self.lines(path):
            if isinstance(cells, BadRow):
                yield line, cells
            elif names is None:
                names = [cell.strip() for cell in cells]
                _check_header(f"{path}:{line}", names, options.columns)
            elif len(cells) != len(names):
                yield line, wrong_count(len(cells), f"the header has {len(names)}")
            else:
                yield line, dict(zip(names, cells, strict=True))

    def cells(self, path: Path, names: Sequence[str], aliases: Sequence[str]) -> Iterator[Cells]:
        """The named columns of every row, with or without a header line.

        A first line that holds all the names is a header. Without one the first columns are read
        in the order of ``names``.
        """
        columns = list(range(len(names)))
        width = len(names)
        leading = True  # whether the wanted columns are the first ones in order
        first = True
        for line, cells in self.lines(path):
            if isinstance(cells, BadRow):
                yield line, cells
                continue
            if first:
                first = False
                header = [cell.strip().lower() for cell in cells]
                headed = next((n for n in (names, aliases) if n and set(n) <= set(header)), None)
                if headed is not None:
                    columns = [header.index(name) for name in headed]
                    width = max(columns) + 1
                    leading = columns == list(range(len(names)))
                    continue
            if len(cells) < width:
                yield line, wrong_count(len(cells), f"expected {', '.join(names)}")
            else:
                yield line, cells[:width] if leading else [cells[c] for c in columns]

    def head(self, path: Path, count: int) -> list[list[str]]:
        """The cells of the first rows, without those that are malformed."""
        rows = (cells for _, cells in self.lines(path) if not isinstance(cells, BadRow))
        return list(islice(rows, count))

    def lines(self, path: Path, skipped: int = 0) -> Iterator[tuple[int, list[str] | BadRow]]:
        """The cells of every row after the ``skipped`` lines, with the line on which it starts."""
        csv.field_size_limit(MAX_LINE)
        lines = _Lines(path, skipped)
        stream = lines.read()
        delimiter = self.delimiter_of(path)
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
                        f"{path}:{start}: a quotation mark opens here and never closes. Close it, "
                        "or put the text in quotation marks and write each one inside it twice."
                    ) from error
                if "field larger" in str(error):
                    raise too_long(f"{path}:{start}", "a field") from error
                problem = CR_ALONE if "new-line character" in str(error) else f"{error}."
                yield start, BadRow("not a row", f"this is not a row of {self.name}: {problem}")
                # The reader keeps what it had read of the broken row; a new one starts afresh.
                reader = csv.reader(stream, delimiter=delimiter, strict=True)
                continue
            if lines.broken is not None:
                yield lines.broken
                lines.broken = None
            elif cells:
                yield start, cells

    def delimiter_of(self, path: Path) -> str:
        """The delimiter of a file: the one of its ending where its first line has it."""
        first = next((line for _, line in read_lines(path)), "")
        bare = _QUOTED.sub("", first) if isinstance(first, str) else ""
        if self.delimiter in bare:
            return self.delimiter
        others = [sign for sign in DELIMITERS if sign in bare]
        return max(others, key=bare.count, default=self.delimiter)


class _Lines:
    """Decoded lines for the csv reader; one that is no text is kept in ``broken``."""

    def __init__(self, path: Path, skipped: int) -> None:
        self.path, self.skipped = path, skipped
        self.number = skipped
        self.ended = False
        self.broken: tuple[int, BadRow] | None = None

    def read(self) -> Iterator[str]:
        with reading(self.path), open_bytes(self.path) as file:
            for raw in islice(raw_lines(file, self.path), self.skipped, None):
                self.number += 1
                line = decoded(raw)
                if isinstance(line, BadRow):
                    self.broken = self.number, line
                    line = "\n"
                yield line
        self.ended = True


def _check_header(place: str, names: list[str], columns: Collection[str]) -> None:
    """Refuse a first line that does not name the columns."""
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise UserError(f"{place}: two columns are called {sorted(twice)[0]!r}.")
    if columns and not set(columns) & set(names):
        expected = " or ".join(f"`{name}`" for name in columns)
        raise UserError(
            f"{place}: the first line names the columns, and {expected} is not among them: "
            f"{', '.join(names)[:200]}."
        )


def wrong_count(count: int, expected: str) -> BadRow:
    """The fault of a row with too few or too many cells."""
    columns = "1 column" if count == 1 else f"{count} columns"
    return BadRow("wrong number of columns", f"this row has {columns}; {expected}.")
