"""Tables: one input of rows from a file, a folder of files, or a dataset.

Files are read by the reader of their ending (`registry`), each plain, ``.gz`` or ``.zst``. They
are UTF-8; a byte-order mark and CRLF line ends are tolerated. Rows are streamed; no file is held
as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.readers import hub_datasets
from sciembed_train.corpus.readers.base import (
    Cells,
    FileReader,
    ReadOptions,
    Row,
    named_columns,
    numbered,
)
from sciembed_train.corpus.readers.files import COMPRESSED, sha256
from sciembed_train.corpus.readers.registry import READERS, reader_of, reader_of_dump, stem_of
from sciembed_train.errors import UserError, why_no_file

Place = TypeVar("Place", int, NDArray[np.int64])

_NUMBER_BITS = 40  # of a row's place, below the bits of its file's number


class Table:
    """One input of rows; a row's *place* is an integer that names its file and line.

    Args:
        source: a file, a folder of files or of ``Dataset.save_to_disk``, or the name of a dataset
            on the hub, ``owner/name``, ``owner/name:config`` or ``owner/name:config@split``.
        kind: what it holds, for messages: ``papers``, ``citations``.
        readers: the formats it may have, by the endings of files.
        needed, record_keys: see `ReadOptions`.
        deep: also look for files in folders within the folder; else only where it has none itself.

    Raises:
        UserError: there is no such input or no reader for its ending, or a folder holds, beside
            other files, a pipe or a broken link with an ending that is read.
    """

    def __init__(
        self,
        source: str | Path,
        kind: str,
        *,
        readers: Mapping[str, FileReader] = READERS,
        needed: Collection[str] = (),
        record_keys: Collection[str] = (),
        deep: bool = False,
    ) -> None:
        self.source = str(source)
        self.kind = kind
        self.readers, self.deep = readers, deep
        self.options = ReadOptions(needed, record_keys)
        self.files: list[Path] = []
        self.ignored_files = 0  # files of a folder without a reader
        self.columns: list[str] = []  # of the first row that was read
        self.empty_files: list[Path] = []  # those that were read and have no row
        self._datasets: list[Any] = []
        self._dumps: dict[Path, FileReader | None] = {}  # files whose ending says no format
        self._open(Path(source))

    def _open(self, path: Path) -> None:
        """Find the files or datasets of the source, and refuse files without a reader."""
        if path.is_file():
            self.files = [path]
        elif path.is_dir() and hub_datasets.is_saved(path):
            self._datasets = hub_datasets.load_saved(path)
            self.files = sorted(p for p in path.rglob("*") if p.is_file())
        elif path.is_dir():
            self.files = self._find(path)
            if not self.files and not self.deep:
                self.deep, self.ignored_files = True, 0
                self.files = self._find(path)
            if not self.files:
                raise UserError(
                    f"{path} holds no file of {self.kind}; endings are {self._endings()}, "
                    "or a folder made by Dataset.save_to_disk."
                )
        elif self._is_hub_name():
            self._datasets = hub_datasets.load_hub(self.source, self.kind)
        else:
            raise UserError(f"{path}: {why_no_file(path, 'file or folder')} ({self.kind}).")
        if not self._datasets:
            for file in self.files:
                self.reader(file)

    def _find(self, folder: Path) -> list[Path]:
        """The files of a folder in the order of their names, without hidden ones."""
        files: list[Path] = []
        others: list[Path] = []  # named like such a file, but no file
        for path in folder.rglob("*") if self.deep else folder.iterdir():
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            if not path.is_file():
                if not path.is_dir() and reader_of(path, self.readers):
                    others.append(path)
            elif self._known_reader(path):
                files.append(path)
            else:
                self.ignored_files += 1
        if files and others:
            why = why_no_file(others[0]) if others[0].exists() else "is a link to nothing"
            raise UserError(f"{others[0]}: {why} ({self.kind}). Or take it out of the folder.")
        return sorted(files)

    def _known_reader(self, path: Path) -> FileReader | None:
        reader = reader_of(path, self.readers)
        if reader is None and path not in self._dumps:
            self._dumps[path] = reader_of_dump(path, self.readers)
        return reader or self._dumps[path]

    def reader(self, path: Path) -> FileReader:
        """The reader of a file of the table; a `UserError` where there is none."""
        reader = self._known_reader(path)
        if reader is None:
            raise UserError(
                f"{path}: the ending says no format of {self.kind}; endings are {self._endings()}."
            )
        return reader

    def _endings(self) -> str:
        endings = ", ".join(self.readers)
        return f"{endings}, and all but .parquet with {' or '.join(COMPRESSED)} added"

    def _is_hub_name(self) -> bool:
        path = Path(self.source)
        return re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@\w+)?", self.source) is not None and (
            reader_of(path, self.readers) is None and path.suffix not in (*COMPRESSED, ".txt")
        )

    def where(self, place: int) -> str:
        """A row's place as a message shows it: file and line, or file and row."""
        file, line = self._place(place)
        if file is None:
            return f"{self.source}, row {line}"
        return f"{file}{numbered(line, self.reader(file).numbered_by)}"

    def name(self, place: int) -> str:
        """A row's place as a name that does not change with the folder: ``file:line``."""
        file, line = self._place(place)
        if file is None:
            return f"{self.source}:{line}"
        folder = Path(self.source)
        name = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
        return f"{name}{numbered(line)}"

    def numbered_files(self) -> Iterator[tuple[int, Path | None]]:
        """The files with their numbers; one None for datasets."""
        yield from enumerate([None] if self._datasets else self.files)

    @staticmethod
    def place(file: int, line: Place) -> Place:
        """The place of a line, or of an array of them, in a numbered file."""
        return file << _NUMBER_BITS | line

    def rows_of(self, number: int) -> Iterator[Row]:
        """As `rows`, of one numbered file."""
        if self._datasets:
            yield from self._dataset_rows()
            return
        file, any_row = self.files[number], False
        for line, row in self.reader(file).rows(file, self.options):
            any_row = True
            yield self.place(number, line), row
        if not any_row:
            self.has_no_row(file)

    def has_no_row(self, file: Path) -> None:
        """Record that a file was read and has no row."""
        if file not in self.empty_files:
            self.empty_files.append(file)

    def file(self, place: int) -> Path | None:
        """The file of a row; None for a dataset."""
        return self._place(place)[0]

    def file_number(self, place: int) -> int:
        """The number of a row's file; 0 for a dataset."""
        return place >> _NUMBER_BITS

    def has_columns(self, file: Path | None) -> bool:
        """Whether all rows of a file have the same fields; so do those of a dataset."""
        return file is None or self.reader(file).has_columns

    def stem(self, place: int) -> str:
        """The name of a row's file without its ending; empty for a dataset."""
        file, _ = self._place(place)
        return "" if file is None else stem_of(file, self.readers)

    def _place(self, place: int) -> tuple[Path | None, int]:
        number, line = place >> _NUMBER_BITS, place & ((1 << _NUMBER_BITS) - 1)
        return (None if self._datasets else self.files[number]), line

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file; the fingerprint of a dataset from the hub.

        A folder that is searched deep is one entry: it may hold millions of files.
        """
        if not self.files:
            sha = hub_datasets.fingerprint(self._datasets)
            return [{"name": self.source, "sha256": sha, "bytes": None}]
        folder = Path(self.source)
        if not (self.deep and folder.is_dir()):
            return [
                {"name": file.name, "sha256": sha256(file), "bytes": file.stat().st_size}
                for file in self.files
            ]
        digest, size = hashlib.sha256(), 0
        for file in self.files:
            digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256(file)}\n".encode())
            size += file.stat().st_size
        files = len(self.files)
        return [{"name": folder.name, "sha256": digest.hexdigest(), "bytes": size, "files": files}]

    def rows(self, first_file: int = 0) -> Iterator[Row]:
        """Every row as fields by name, or as a `BadRow`, with its place.

        Those of files before the one with the number ``first_file`` are left out.
        """
        for place, row in self._dataset_rows() if self._datasets else self._file_rows(first_file):
            if not self.columns and isinstance(row, Mapping):
                self.columns = list(map(str, row))
            yield place, row

    def cells(self, names: Sequence[str], aliases: Sequence[str] = ()) -> Iterator[Cells]:
        """The named columns of every row; a CSV or TSV file needs no header line for this.

        A first line that holds all the names, or all the aliases, is a header. Without one the
        first columns are read in the order of ``names``. More columns are ignored.

        Raises:
            UserError: as `rows`; or a Parquet file or dataset lacks a column.
        """
        if self._datasets:
            yield from named_columns(self._dataset_rows(), names, aliases)
            return
        for number, file in enumerate(self.files):
            any_row = False
            for line, cells in self.reader(file).cells(file, names, aliases):
                any_row = True
                yield self.place(number, line), cells
            if not any_row:
                self.has_no_row(file)

    def _file_rows(self, first: int) -> Iterator[Row]:
        for number in range(first, len(self.files)):
            yield from self.rows_of(number)

    def _dataset_rows(self) -> Iterator[Row]:
        line = 0
        for dataset in self._datasets:
            for row in dataset:
                line += 1
                yield line, row
