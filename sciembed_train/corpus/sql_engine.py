"""Runs SQL on DuckDB; no other module knows the engine.

The SQL beside the miners keeps to what DuckDB and Spark both run: no engine's own hash or random
numbers, a total order in every window, integers below 2^63, no list aggregates. Statements stand
in ``.sql`` files, each after a line ``-- name: NAME``; ``$word`` stands for an integer.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.row_blocks import blocks
from sciembed_train.errors import UserError
from sciembed_train.full_disk import disk_error

# The database's message where its memory is used up and the disk has no room to spill to.
NO_SPILL = "failed to offload data block"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def read_size(text: str) -> int:
    """Bytes of a size such as ``4GB``, ``500 MB`` or ``2GiB``; a `UserError` if it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)(B?)\s*", text.upper())
    if not match or (match[3] and not match[2]):
        raise UserError(f"memory is {text!r}; expected a size such as 4GB or 500MB.")
    unit = _UNITS[f"{match[2]}B"]
    if match[3]:
        unit = 1 << {"K": 10, "M": 20, "G": 30, "T": 40}[match[2]]
    return int(float(match[1]) * unit)


def statements(path: Path) -> dict[str, str]:
    """The statements of a ``.sql`` file by name."""
    parts = re.split(r"^-- name: (\w+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


class Engine:
    """A DuckDB database in a folder, within a limit of bytes; larger work spills to the folder.

    ``threads`` None is one per core.
    """

    def __init__(self, folder: Path, memory: int, threads: int | None = None) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise UserError(
                "prepare needs the package duckdb, which is not installed: "
                "pip install 'sciembed_train[prepare]'."
            ) from error
        self._folder = folder
        spill = folder / "spill"
        spill.mkdir(exist_ok=True)
        config: dict[str, Any] = {
            "memory_limit": f"{max(memory, 64 * 10**6)}B",
            "temp_directory": str(spill),
            # Order is asked for where it matters; keeping it elsewhere costs memory.
            "preserve_insertion_order": "false",
        }
        if threads is not None:
            config["threads"] = str(threads)
        self._connection = duckdb.connect(str(folder / "work.duckdb"), config=config)
        self._connection.execute("SET enable_progress_bar = false")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def load(self, table: str, parquet: Path) -> None:
        """Read a Parquet file into a table, in the place of one of that name."""
        self.drop(table)
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT * FROM read_parquet(?)", [str(parquet)]
        )

    def load_columns(self, table: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Columns as a table, through a Parquet file, which every engine reads."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._folder / f"{table}.parquet"
        kinds = {name: pa.from_numpy_dtype(column.dtype) for name, column in columns.items()}
        with pq.ParquetWriter(path, pa.schema(kinds)) as writer:
            for rows in blocks(len(next(iter(columns.values())))):
                block = {k: np.ascontiguousarray(v[rows]) for k, v in columns.items()}
                writer.write_table(pa.table(block))
        self.load(table, path)
        path.unlink()

    def run(self, sql: str, **values: int) -> None:
        """Run a statement with ``$word`` replaced."""
        self._connection.execute(_filled(sql, values))

    def create(self, table: str, sql: str, **values: int) -> None:
        """A table of a query's rows, in the place of one of that name."""
        self.drop(table)
        self._connection.execute(f"CREATE TABLE {table} AS {_filled(sql, values)}")

    def drop(self, table: str) -> None:
        """Remove a table, if there is one."""
        self._connection.execute(f"DROP TABLE IF EXISTS {table}")

    def columns(self, sql: str, **values: int) -> dict[str, NDArray[Any]]:
        """A query's columns as arrays."""
        columns: Any = self._connection.execute(_filled(sql, values)).fetchnumpy()
        return columns

    def number(self, sql: str, **values: int) -> int:
        """The one integer that a query gives; 0 for null."""
        # All rows: fetching one alone leaves the result open, and no other can be read.
        rows = self._connection.execute(_filled(sql, values)).fetchall()
        return int(rows[0][0] or 0) if rows else 0

    def batches(self, sql: str, parquet: Path, rows: int = 16384) -> Iterator[Any]:
        """Arrow record batches of a query over the Parquet file that it calls ``source``."""
        path = str(parquet).replace("'", "''")  # a view takes no parameters
        self._connection.execute(
            f"CREATE OR REPLACE TEMP VIEW source AS SELECT * FROM read_parquet('{path}')"
        )
        yield from self._reader(sql, rows)

    def stream(
        self, sql: str, rows: int = 16384, **values: int
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """A query's columns as arrays, ``rows`` at a time; run no other statement in between."""
        for batch in self._reader(_filled(sql, values), rows):
            names = batch.schema.names
            yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}

    def _reader(self, sql: str, rows: int) -> Any:
        # A relation, not execute(): that one's arrow reader loses ORDER BY (DuckDB 2.0, rows not
        # kept in insertion order). Before 1.4 the method had another name.
        relation: Any = self._connection.sql(sql)
        read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        return read(rows)


def _filled(sql: str, values: dict[str, int]) -> str:
    return Template(sql).substitute({name: int(value) for name, value in values.items()})


@contextmanager
def running(folder: Path, memory: int, threads: int | None = None) -> Iterator[Engine]:
    """An engine that is closed when the block ends.

    Raises:
        UserError: the memory allowed is too little, or the files cannot be written.
        duckdb.Error, OSError: the disk is full (see `full_disk`).
    """
    engine = Engine(folder, memory, threads)
    import duckdb

    try:
        yield engine
    except duckdb.OutOfMemoryException as error:
        if NO_SPILL in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        first = str(error).splitlines()[0]
        raise UserError(
            f"The memory allowed is too little: {first} Give more with --memory."
        ) from error
    except duckdb.IOException as error:
        if disk_error(error) is not None:
            raise
        raise UserError(f"The database could not write its files: {error}") from error
    finally:
        engine.close()
