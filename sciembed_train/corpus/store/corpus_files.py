"""The files of a corpus folder: its facts, rows of Parquet files, arrays being written.

Files and folders that are written whole appear so or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.row_blocks import blocks, keep_rows, unpacked
from sciembed_train.corpus.store.checksums import check_file, record_checksums
from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.whole_folder import whole_folder

CORPUS_VERSION: int = 3
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SENTENCE_PAIRS = "sentence_pairs"  # a folder
FIRST_OF_TEXT = "first_of_text.npy"
TITLES = "titles.npy"
EXCLUDED_PAPERS = "excluded.npy"  # where any is
AS_BEFORE = (
    "What it is made from is as it was, and so is an earlier folder there. Make room and run the "
    "same command again."
)


def read_info(folder: Path) -> dict[str, Any]:
    """The contents of ``corpus.json``.

    Raises:
        UserError: the folder is no corpus, or one of another version.
    """
    path = folder / "corpus.json"
    if not path.is_file():
        fault = "has no corpus.json" if folder.is_dir() else "does not exist"
        if folder.is_file():
            raise UserError(
                f"{folder} is a file, and a corpus is a folder that `train prepare` makes. "
                "Files of your own are given as --data.papers and --data.citations to fit and "
                "show, as --papers and --citations to prepare."
            )
        raise UserError(
            f"{folder} is no corpus: it {fault}. Make one with "
            f"`train prepare --papers F --citations F --to {folder}`, or from full texts with "
            "--fulltexts F."
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = info["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}). Run prepare again.") from error
    if version != CORPUS_VERSION:
        raise UserError(
            f"{folder} is a corpus of version {version}; this program reads version "
            f"{CORPUS_VERSION}. Run prepare again from the source files."
        )
    return info


def read_rows(
    path: Path, columns: list[str], batch: int = 4096, first: int = 0, stop: int | None = None
) -> Iterator[dict[str, Any]]:
    """The rows ``first`` to ``stop - 1`` of a Parquet file, by default all, a batch in memory."""
    import pyarrow.parquet as pq

    check_file(path)
    with pq.ParquetFile(path) as file:
        groups, ends, end = [], [], 0
        for group in range(file.num_row_groups):
            end += file.metadata.row_group(group).num_rows
            if end > first:
                groups.append(group)
                ends.append(end)
        if not groups:
            return
        done = ends[0] - file.metadata.row_group(groups[0]).num_rows
        for rows in file.iter_batches(batch_size=batch, row_groups=groups, columns=columns):
            begin = max(first - done, 0)
            last = len(rows) if stop is None else min(stop - done, len(rows))
            if last > begin:
                yield from rows.slice(begin, last - begin).to_pylist()
            done += len(rows)
            if stop is not None and done >= stop:
                return


def read_papers(
    path: Path, batch: int = 4096, first: int = 0, stop: int | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a ``papers.parquet`` as `Corpus.papers` gives them, a batch in memory.

    ``first`` and ``stop`` as for `read_rows`.
    """
    columns = ["paper", "paper_id", "title", "abstract", "sentences"]
    for row in read_rows(path, columns, batch, first, stop):
        sentences = row.pop("sentences")
        if sentences is not None:
            row["abstract"] = sentences
        yield row


def read_documents(path: Path) -> Iterator[str]:
    """The texts of a ``documents.parquet`` in order, a row group in memory."""
    import pyarrow.parquet as pq

    check_file(path)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            texts = file.read_row_group(group, columns=["text"]).column("text")
            for text in texts:
                yield text.as_py()


def save_documents(folder: Path, split: Split, documents: NDArray[np.int32]) -> None:
    """Write a split's document numbers into a corpus being written."""
    (folder / "documents").mkdir(exist_ok=True)
    np.save(folder / "documents" / f"{split}.npy", documents.astype(np.int32))


def save_queries(folder: Path, split: Split, queries: NDArray[np.int32]) -> None:
    """Write a split's query papers into a corpus being written."""
    (folder / "queries").mkdir(exist_ok=True)
    np.save(folder / "queries" / f"{split}.npy", queries.astype(np.int32))


def save_paper_splits(folder: Path, split: NDArray[np.int8]) -> None:
    """Write the split of every paper ``[P]``, as its place in `SPLITS`, into a corpus."""
    np.save(folder / "paper_splits.npy", split.astype(np.int8))


def of_texts(pairs: NDArray[np.int32], first: NDArray[np.integer]) -> NDArray[np.int32]:
    """Pairs ``[E, 2]`` with each paper replaced by the first one of its text.

    Distinct, ascending and without pairs of one paper; unchanged where all texts differ.
    """
    if np.array_equal(first, np.arange(len(first))):
        return pairs
    keys = np.empty(len(pairs), np.int64)
    for block in blocks(len(pairs)):
        a, b = first[pairs[block]].T
        keys[block] = np.where(a == b, -1, a.astype(np.int64) * len(first) + b)
    keys.sort()
    different = np.diff(keys, prepend=-1) != 0  # those of one paper are -1
    return unpacked(keep_rows(keys, different), len(first))


def save_first_of_text(folder: Path, first: NDArray[np.int32]) -> None:
    """Write the first paper of each one's text ``[P]`` into a corpus."""
    np.save(folder / FIRST_OF_TEXT, first.astype(np.int32))


def save_titles(folder: Path, titles: NDArray[np.int64]) -> None:
    """Write the `text_number` of each paper's title ``[P]`` into a corpus."""
    np.save(folder / TITLES, titles.astype(np.int64))


def save_excluded(folder: Path, excluded: NDArray[np.bool_]) -> None:
    """Write whether each paper is excluded ``[P]`` into a corpus."""
    np.save(folder / EXCLUDED_PAPERS, excluded.astype(np.bool_))


class ParquetRows:
    """A Parquet file written row by row, ``group`` rows at a time, or batch by batch.

    ``columns`` are Arrow types by name; ``options`` are those of `pyarrow.parquet.ParquetWriter`.
    """

    def __init__(
        self, path: Path, columns: Mapping[str, Any], group: int = 4096, **options: Any
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.schema, self.group = pa.schema(list(columns.items())), group
        self.file = pq.ParquetWriter(path, self.schema, compression="zstd", **options)
        self.rows: list[Sequence[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, *row: Any) -> None:
        """Write the next row."""
        self.rows.append(row)
        if len(self.rows) >= self.group:
            self.flush()

    def flush(self) -> None:
        """Write a row group of the rows added since the last one."""
        if self.rows:
            self.write(*zip(*self.rows, strict=True))
        self.rows = []

    def write(self, *columns: Any) -> None:
        """Write a batch of rows, columns by column in the order of the schema."""
        import pyarrow as pa

        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, kind)
            for column, kind in zip(columns, self.schema.types, strict=True)
        ]
        self.file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))

    def close(self) -> None:
        """Write the last rows and close the file."""
        self.flush()
        self.file.close()


class ArrayWriter:
    """An ``.npy`` file written a piece at a time.

    Without a ``shape`` it has one dimension, as long as what is written.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...] | None = None) -> None:
        self.dtype, self.shape, self.written = np.dtype(dtype), shape, 0
        self.file = path.open("wb", buffering=2**20)
        self.start = self._write_header(shape or (0,))

    def _write_header(self, shape: tuple[int, ...]) -> int:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        return self.file.tell()

    def add(self, values: NDArray[Any] | Sequence[int]) -> None:
        """Write the next entries."""
        values = np.ascontiguousarray(values, self.dtype)
        self.written += values.size
        self.file.write(values.data)

    def close(self) -> None:
        """Close the file.

        Raises:
            RuntimeError: the number of entries written differs from the shape (a defect).
        """
        if self.shape is None:
            self.file.seek(0)
            # numpy leaves space in a header for the length to grow.
            assert self._write_header((self.written,)) == self.start
        self.file.close()
        if self.shape is not None and self.written != np.prod(self.shape):
            raise RuntimeError("the database gave another number of rows than it counted")


class SplitWriter:
    """A split's triplets written a piece at a time into a corpus being written.

    Args:
        folder: of the corpus.
        split: whose they are.
        count: how many there will be.
    """

    def __init__(self, folder: Path, split: Split, count: int) -> None:
        import pyarrow as pa

        folder = folder / "triplets"
        folder.mkdir(exist_ok=True)
        self.rows = ArrayWriter(folder / f"{split}.npy", "<i4", (count, 3))
        self.hard = ArrayWriter(folder / f"{split}.hard.npy", "|b1", (count,))
        columns = dict.fromkeys(("query", "positive", "negative"), pa.int32())
        self.table = ParquetRows(folder / f"{split}.parquet", columns | {"hard": pa.bool_()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        with ExitStack() as stack:
            stack.callback(self.table.close)
            for array in (self.rows, self.hard):
                # After an error, that error counts, not the missing rows.
                stack.callback(array.close if error is None else array.file.close)

    def add(self, rows: NDArray[np.int32], hard: NDArray[np.bool_]) -> None:
        """Write the next triplets ``[N, 3]`` and whether each has a hard negative ``[N]``."""
        self.rows.add(rows)
        self.hard.add(hard)
        self.table.write(*np.ascontiguousarray(rows.T), hard)


def save_info(folder: Path, info: Mapping[str, Any], name: str = "corpus.json") -> None:
    """Write ``corpus.json`` or ``report.json``, whole or not at all."""
    partial = folder / f".{name}.{os.getpid()}"
    text = json.dumps(info, indent=1, ensure_ascii=False) + "\n"
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def written_whole(to: Path, marker: str = "corpus.json") -> Iterator[Path]:
    """A `whole_folder` that takes the place of an empty one or of one that holds ``marker``.

    It gets the checksums of its files.

    Raises:
        UserError: the place cannot be written, or holds something else.
        RunError: the disk is full.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not (to / marker).is_file()):
        raise UserError(f"{to} exists and is no corpus. Give --to another folder, or remove it.")
    with told_full_disk(to, AS_BEFORE), whole_folder(to) as folder:
        yield folder
        record_checksums(folder)
