"""Some columns of a CSV or TSV file, many rows at a time, for files of millions of rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.delimited import Delimited, wrong_count
from sciembed_train.corpus.readers.files import open_bytes, reading, without_mark

PART = 1 << 26  # bytes that are parsed at once
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


Blocks = Iterator[ColumnBlock | tuple[int, BadRow]]


def column_blocks(
    reader: Delimited, path: Path, columns: Sequence[int], names: Sequence[str], header: bool
) -> Blocks:
    """Some columns of a file, and its malformed rows with their lines.

    Parts of the file are parsed by pyarrow up to the first one with a quotation mark, a blank line
    or a fault; the rest goes row by row, as `Delimited.rows`.

    Args:
        reader: of the file.
        path: the file.
        columns: which ones, from 0.
        names: of the columns, for messages.
        header: whether the first line names the columns and is no row.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    delimiter = reader.delimiter_of(path)
    done = int(header)  # lines
    with reading(path), open_bytes(path) as file:
        if header:
            file.readline()
        for part in _whole_lines(file, path, first=not header):
            parsed = _parse(part, delimiter, columns)
            if parsed is None:
                break
            count = len(parsed[0])
            yield ColumnBlock(np.arange(done + 1, done + count + 1, dtype=np.int64), parsed)
            done += count
        else:
            return
    yield from _row_by_row(reader, path, columns, names, done)


def _row_by_row(
    reader: Delimited, path: Path, columns: Sequence[int], names: Sequence[str], done: int
) -> Blocks:
    """The rows after the first ``done`` lines, read one by one."""
    width = max(columns) + 1
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, cells in reader.lines(path, done):
        if isinstance(cells, BadRow):
            yield line, cells
        elif len(cells) < width:
            yield line, wrong_count(len(cells), f"expected {', '.join(names)}")
        else:
            lines.append(line)
            rows.append([cells[column] for column in columns])
        if len(lines) == ROWS:
            yield _block(lines, rows)
            lines, rows = [], []
    if lines:
        yield _block(lines, rows)


def _block(lines: list[int], kept: list[list[str]]) -> ColumnBlock:
    columns = [list(column) for column in zip(*kept, strict=True)]
    return ColumnBlock(np.array(lines, np.int64), columns)


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
        else:  # too long for a part: this line and the rest go row by row
            yield rest + read
            return
    if rest:
        yield rest


def _parse(part: bytes, delimiter: str, columns: Sequence[int]) -> list[Any] | None:
    """Columns of a part of a file by pyarrow; None where it has anything out of the ordinary."""
    import pyarrow as pa
    from pyarrow import csv

    odd = (b'"', b"\0", b"\n\n", b"\n\r\n")
    if not part.endswith(b"\n") or part[:1] in b"\r\n" or any(sign in part for sign in odd):
        return None
    if part.count(b"\r") not in (0, part.count(b"\r\n")):
        return None
    text = {f"f{column}": pa.string() for column in columns}
    try:
        table = csv.read_csv(
            io.BytesIO(part),
            csv.ReadOptions(autogenerate_column_names=True, block_size=PART),
            csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=text, include_columns=list(text), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    if table.num_rows != part.count(b"\n"):
        return None
    return [table.column(name) for name in text]
