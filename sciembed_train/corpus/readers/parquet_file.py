"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import damaged, missing_package, not_utf8, reading
from sciembed_train.errors import UserError, one_line

BATCH = 1024  # rows


class ParquetFile(FileReader):
    """Reads ``.parquet`` files, which have their own compression."""

    numbered_by = "row"
    has_columns = True
    may_be_compressed = False

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every row; `BATCH` are in memory at a time."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_package("pyarrow", "Parquet files") from error

        with reading(path):
            try:
                # The buffer bounds what is read of a column chunk: those of full texts are large.
                file = pq.ParquetFile(path, buffer_size=1 << 20)
            except (pa.ArrowException, UnicodeDecodeError) as error:  # or a column's name
                problem = one_line(error).rstrip(".")
                raise UserError(
                    f"{path}: this is not a Parquet file ({problem}). Fetch it again, or take it "
                    "out of the folder."
                ) from error
            with file:
                number = 0
                try:
                    for batch in file.iter_batches(batch_size=BATCH):
                        for fields in _fields(batch):
                            number += 1
                            yield number, fields
                except (pa.ArrowException, UnicodeDecodeError) as error:
                    raise damaged(path, error) from error


def _fields(batch: Any) -> Iterator[Mapping[str, Any] | BadRow]:
    """The rows of a batch of Arrow."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # of a text that is not UTF-8, a date that is no date
        rows = None
    yield from rows if rows is not None else map(_row, [batch] * len(batch), range(len(batch)))


def _row(batch: Any, number: int) -> Mapping[str, Any] | BadRow:
    """One row of a batch, a malformed one where a cell cannot be read."""
    row: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            row[name] = batch.column(name)[number].as_py()
        except UnicodeDecodeError as error:
            fault = not_utf8(error)
            return BadRow(fault.reason, f"`{name}`: {fault.message}")
        except (ValueError, OverflowError) as error:
            return BadRow(
                f"{name} cannot be read",
                f"`{name}` cannot be read: {one_line(error).rstrip('.')}. Correct it, or leave the "
                "column out of the file.",
            )
    return row
