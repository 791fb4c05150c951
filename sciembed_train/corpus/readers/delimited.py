"""CSV and TSV files, each row with the line on which it starts."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import Cells, FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import not_utf8, open_bytes, reading, without_mark
from sciembed_train.errors import UserError

PART = 1 << 24  # bytes that are parsed at once
ROWS = 1 << 16  # of a block that is read row by row


@dataclass(frozen=True)
class ColumnBlock:
    """Some columns of many rows.

    Args:
        lines: of the rows in the file ``[N]``.
        columns: of each the cells ``[N]``, as an Arrow array or a list of texts.
    """

    lines: NDArray[np.int64]
    columns: list[Any]


class Delimited(FileReader):
    """Reads files of cells between delimiters, in quotation marks where needed."""

    has_columns = True

    def __init__(self, delimiter: str, name: str) -> None:
        self.delimiter, self.name = delimiter, name

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Rows by the names in the first line."""
        names: list[str] | None = None
        for line, cells in self._lines(path):
            if isinstance(cells, BadRow):
                yield line, cells
            elif names is None:
                names = [cell.strip() for cell in cells]
                _check_header(f"{path}:{line}", names, options.columns)
            elif len(cells) != len(names):
                yield line, _wrong_count(len(cells), f"the header has {len(names)}")
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
        for line, cells in self._lines(path):
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
                yield line, _wrong_count(len(cells), f"expected {', '.join(names)}")
            else:
                yield line, cells[:width] if leading else [cells[c] for c in columns]

    def head(self, path: Path, count: int) -> list[Sequence[str]]:
        """The cells of the first rows, without those that are malformed."""
        rows = (cells for _, cells in self._lines(path) if not isinstance(cells, BadRow))
        return list(islice(rows, count))

    def column_blocks(
        self, path: Path, columns: Sequence[int], names: Sequence[str], header: bool
    ) -> Iterator[ColumnBlock | tuple[int, BadRow]]:
        """Some columns of a file, many rows at a time, and its malformed rows with their lines.

        Parts of the file without quotation marks, blank lines and faults are read by pyarrow; what
        follows the first of them goes row by row.

        Args:
            path: the file.
            columns: which ones, from 0.
            names: of the columns, for messages.
            header: whether the first line names the columns and is no row.
        """
        width = max(columns) + 1
        with reading(path), open_bytes(path) as file:
            line = 1
            if header:
                file.readline()
                line = 2
            quoted = False
            for part in _whole_lines(file, path, first=not header):
                fast = None if quoted else _parse(part, self.delimiter, columns)
                quoted = quoted or b'"' in part
                if fast is not None:
                    count = len(fast[0])
                    yield ColumnBlock(np.arange(line, line + count, dtype=np.int64), fast)
                    line += count
                    continue
                if quoted:  # a cell may go on in the next part
                    rest = chain(io.BytesIO(part), file)
                    yield from self._row_blocks(path, rest, line, columns, names, width)
                    return
                yield from self._row_blocks(path, io.BytesIO(part), line, columns, names, width)
                line += part.count(b"\n")

    def _row_blocks(
        self,
        path: Path,
        raw: Iterable[bytes],
        line: int,
        columns: Sequence[int],
        names: Sequence[str],
        width: int,
    ) -> Iterator[ColumnBlock | tuple[int, BadRow]]:
        places: list[int] = []
        kept: list[list[str]] = []
        for number, cells in self._cells(_Lines(path, raw, line - 1)):
            if isinstance(cells, BadRow):
                yield number, cells
            elif len(cells) < width:
                yield number, _wrong_count(len(cells), f"expected {', '.join(names)}")
            else:
                places.append(number)
                kept.append([cells[column] for column in columns])
            if len(places) == ROWS:
                yield _block(places, kept)
                places, kept = [], []
        if places:
            yield _block(places, kept)

    def _lines(self, path: Path) -> Iterator[tuple[int, list[str] | BadRow]]:
        """The cells of every row, with the line on which it starts."""
        with reading(path), open_bytes(path) as file:
            yield from self._cells(_Lines(path, file))

    def _cells(self, lines: _Lines) -> Iterator[tuple[int, list[str] | BadRow]]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        stream = lines.read()
        reader = csv.reader(stream, delimiter=self.delimiter, strict=True)
        while True:
            start = lines.number + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if lines.ended:
                    raise UserError(
                        f"{lines.path}:{start}: a quotation mark opens here and never closes. "
                        "Close it, or put the text in quotation marks and write each one inside it "
                        "twice."
                    ) from error
                yield start, BadRow("not a row", f"this is not a row of {self.name}: {error}.")
                # The reader keeps what it had read of the broken row; a new one starts afresh.
                reader = csv.reader(stream, delimiter=self.delimiter, strict=True)
                continue
            if lines.broken is not None:
                yield lines.broken
                lines.broken = None
            elif cells:
                yield start, cells


class _Lines:
    """Decoded lines for the csv reader; a line that is not UTF-8 is kept in ``broken``."""

    def __init__(self, path: Path, raw: Iterable[bytes], number: int = 0) -> None:
        self.path, self.raw = path, raw
        self.number = number
        self.ended = False
        self.broken: tuple[int, BadRow] | None = None

    def read(self) -> Iterator[str]:
        for raw in self.raw:
            self.number += 1
            if self.number == 1:
                raw = without_mark(raw, self.path)
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                self.broken = self.number, not_utf8(error)
                yield "\n"
        self.ended = True


def _whole_lines(file: BinaryIO, path: Path, first: bool) -> Iterator[bytes]:
    """A file in parts that end with a line; ``first``: it is read from its beginning."""
    rest = b""
    while read := file.read(PART):
        if first:
            read, first = without_mark(read, path), False
        stop = read.rfind(b"\n") + 1
        if stop:
            yield rest + read[:stop]
            rest = read[stop:]
        else:
            rest += read
    if rest:
        yield rest


def _parse(part: bytes, delimiter: str, columns: Sequence[int]) -> list[Any] | None:
    """Columns of a part of a file by pyarrow; None where it has anything out of the ordinary."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    odd = (b'"', b"\0", b"\n\n", b"\n\r\n")
    if not part.endswith(b"\n") or part[:1] in b"\r\n" or any(sign in part for sign in odd):
        return None
    if part.count(b"\r") not in (0, part.count(b"\r\n")):
        return None
    text = {f"f{column}": pa.string() for column in columns}
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(part),
            arrow_csv.ReadOptions(autogenerate_column_names=True, block_size=PART),
            arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types=text, include_columns=list(text), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    if table.num_rows != part.count(b"\n"):
        return None
    return [table.column(name) for name in text]


def _block(places: list[int], kept: list[list[str]]) -> ColumnBlock:
    columns = [list(column) for column in zip(*kept, strict=True)]
    return ColumnBlock(np.array(places, np.int64), columns)


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


def _wrong_count(count: int, expected: str) -> BadRow:
    columns = "1 column" if count == 1 else f"{count} columns"
    return BadRow("wrong number of columns", f"this row has {columns}; {expected}.")
