"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import missing_package, reading
from sciembed_train.errors import UserError


class ParquetFile(FileReader):
    """Reads ``.parquet`` files, which have their own compression."""

    numbered_by = "row"
    has_columns = True
    may_be_compressed = False

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every row; 1024 are in memory at a time."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_package("pyarrow", "Parquet files") from error

        with reading(path):
            try:
                # The buffer bounds what is read of a column chunk: those of full texts are large.
                file = pq.ParquetFile(path, buffer_size=1 << 20)
            except pa.ArrowInvalid as error:
                raise UserError(f"{path}: this is not a Parquet file ({error}).") from error
            with file:
                number = 0
                for batch in file.iter_batches(batch_size=1024):
                    for fields in batch.to_pylist():
                        number += 1
                        yield number, fields
