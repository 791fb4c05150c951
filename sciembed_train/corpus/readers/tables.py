"""Readers: one for every format of file that people have, all giving rows with their place.

A `Table` is one input: a file, a folder of files read in the order of their names, or a dataset
of the ``datasets`` library. Files are JSON Lines, JSON, CSV, TSV or Parquet by their ending, each
plain, ``.gz`` or ``.zst`` (Parquet has its own compression). UTF-8; a byte-order mark and CRLF
line ends are tolerated. Rows are streamed; nothing here holds a whole file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers import hub_datasets
from sciembed_train.corpus.readers.delimited import delimited_cells, delimited_rows
from sciembed_train.corpus.readers.files import (
    COMPRESSED,
    ENDINGS,
    kind_of,
    needs,
    read_lines,
    reading,
    refuse_binary,
    sha256,
)
from sciembed_train.corpus.readers.json_members import iter_json
from sciembed_train.corpus.validation import BadRow
from sciembed_train.errors import UserError

_FILE = 40  # bits of a row's place that hold its number; the file's number stands above

Row = tuple[int, Mapping[str, Any] | BadRow]
Cells = tuple[int, Sequence[Any] | BadRow]


class Table:
    """One input of rows.

    Args:
        source: a file, a folder of files or of ``Dataset.save_to_disk``, or the name of a dataset
            on the hub, ``owner/name``, ``owner/name:config`` or ``owner/name:config@split``.
        what: what it holds, for messages: ``papers``, ``citations``.
        endings: the formats it may have, by the endings of files.
        needed: columns of which a CSV or TSV file must have one; ``paper_id`` for papers.
        fields: keys by which a JSON object is seen to be one record and not a record for each key.
        deep: look for files in folders within the folder too.

    Raises:
        UserError: there is no such input, or its ending is not known.
    """

    def __init__(
        self,
        source: str | Path,
        what: str,
        *,
        endings: Mapping[str, str] = ENDINGS,
        needed: Collection[str] | None = None,
        fields: Collection[str] = (),
        deep: bool = False,
    ) -> None:
        self.source = str(source)
        self.what = what
        self.endings, self.fields, self.deep = endings, fields, deep
        self.needed = needed if needed is not None else ("paper_id",) if what == "papers" else ()
        self.files: list[Path] = []
        self.passed_by = 0  # files of a folder whose ending says no format
        self._datasets: list[Any] = []
        path = Path(source)
        if path.is_file():
            self.files = [path]
        elif path.is_dir():
            if hub_datasets.is_saved(path):
                self._datasets = hub_datasets.load_saved(path)
                self.files = sorted(p for p in path.rglob("*") if p.is_file())
            else:
                self.files = self._find(path)
                if not self.files:
                    raise UserError(
                        f"{path} holds no file of {what}; endings are {self._endings()}, "
                        "or a folder made by Dataset.save_to_disk."
                    )
        elif self._is_hub_name():
            self._datasets = hub_datasets.load_hub(self.source, what)
        else:
            raise UserError(f"{path}: there is no such file or folder ({what}).")
        if not self._datasets:
            for file in self.files:
                if self._kind(file) is None:
                    raise UserError(
                        f"{file}: the ending says no format of {what}; endings are "
                        f"{self._endings()}."
                    )

    def _find(self, folder: Path) -> list[Path]:
        """The files of a folder in the order of their names; hidden ones are none."""
        found = []
        for path in folder.rglob("*") if self.deep else folder.iterdir():
            hidden = self.deep and any(p.startswith(".") for p in path.relative_to(folder).parts)
            if path.is_file() and not hidden:
                if self._kind(path):
                    found.append(path)
                else:
                    self.passed_by += 1
        return sorted(found)

    def _kind(self, path: Path) -> str | None:
        return kind_of(path, self.endings)

    def _endings(self) -> str:
        plain = ", ".join(self.endings)
        return f"{plain}, and all but Parquet with {' or '.join(COMPRESSED)} added"

    def _is_hub_name(self) -> bool:
        path = Path(self.source)
        return re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@\w+)?", self.source) is not None and (
            self._kind(path) is None and path.suffix not in (*COMPRESSED, ".txt")
        )

    def where(self, place: int) -> str:
        """A row's place as a message shows it: file and line, or file and row."""
        file, line = self._place(place)
        if file is None:
            return f"{self.source}, row {line}"
        return f"{file}, row {line}" if self._kind(file) == "parquet" else f"{file}:{line}"

    def name(self, place: int) -> str:
        """A row's place as a name that does not change with the folder: ``file:line``."""
        file, line = self._place(place)
        if file is None:
            return f"{self.source}:{line}"
        folder = Path(self.source)
        return f"{file.relative_to(folder).as_posix() if folder.is_dir() else file.name}:{line}"

    def stem(self, place: int) -> str:
        """The name of a row's file without its ending; empty for a dataset."""
        file, _ = self._place(place)
        if file is None:
            return ""
        name = file.name
        while Path(name).suffix.lower() in (*COMPRESSED, *self.endings):
            name = Path(name).stem
        return name

    def _place(self, place: int) -> tuple[Path | None, int]:
        number, line = place >> _FILE, place & ((1 << _FILE) - 1)
        return (None if self._datasets else self.files[number]), line

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file; the fingerprint of a dataset from the hub.

        A folder that is searched deep may hold millions of files: it is one entry.
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

    def rows(self) -> Iterator[Row]:
        """Every row as fields by name, or as a `BadRow`, with its place.

        Raises:
            UserError: a file cannot be read, is damaged, or has no header of column names.
        """
        if self._datasets:
            yield from self._dataset_rows()
            return
        for number, file in enumerate(self.files):
            for line, row in self._rows(file):
                yield number << _FILE | line, row

    def cells(self, names: Sequence[str], aliases: Sequence[str] = ()) -> Iterator[Cells]:
        """The named columns of every row; a CSV or TSV file needs no header line for this.

        A first line that holds all the names is a header and says where the columns are.
        Without it the first columns are meant, in the order of ``names``. More columns are
        ignored.

        Args:
            names: the columns.
            aliases: other names for the same columns, in the same order.

        Raises:
            UserError: as `rows`; or a Parquet file or dataset lacks a column.
        """
        if self._datasets:
            yield from _named(self._dataset_rows(), names, aliases)
            return
        for number, file in enumerate(self.files):
            base = number << _FILE
            if self._kind(file) in ("csv", "tsv"):
                for line, cells in delimited_cells(file, names, aliases):
                    yield base | line, cells
            else:
                for line, cells in _named(self._rows(file), names, aliases):
                    yield base | line, cells

    def _dataset_rows(self) -> Iterator[Row]:
        line = 0
        for dataset in self._datasets:
            for row in dataset:
                line += 1
                yield line, row

    def _rows(self, path: Path) -> Iterator[Row]:
        kind = self._kind(path)
        if kind == "jsonl":
            for line, text in read_lines(path):
                yield line, text if isinstance(text, BadRow) else _json_row(text)
        elif kind == "json":
            for line, key, value in iter_json(path, self.fields):
                yield line, _member(key, value)
        elif kind == "parquet":
            yield from _parquet_rows(path)
        elif kind == "txt":
            refuse_binary(path)
            for line, text in read_lines(path, empty=True):
                yield line, text if isinstance(text, BadRow) else {"text": text}
        else:
            yield from delimited_rows(path, self.needed)


def _member(key: str | None, value: Any) -> Mapping[str, Any] | BadRow:
    """A member of a JSON file as a row; the key of an object's member is the paper's id."""
    if not isinstance(value, dict):
        return BadRow("not an object", "this is not an object with fields.")
    if key is not None and str(value.get("paper_id", key)).strip() != key.strip():
        what = f"the key is {key!r} and `paper_id` in it is {value['paper_id']!r}."
        return BadRow("key and paper_id differ", what)
    return {"paper_id": key, **value} if key is not None else value


def _json_row(text: str) -> Mapping[str, Any] | BadRow:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"this is not JSON: {error.msg} at column {error.colno}."
        return BadRow("not JSON", what)
    except (ValueError, RecursionError) as error:
        return BadRow("not JSON", f"this is not JSON that can be read: {error}.")
    if not isinstance(value, dict):
        return BadRow("not an object", "this is not an object with fields, {...}.")
    return value


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise needs("pyarrow", "Parquet files") from error

    with reading(path):
        try:
            # Column chunks are read piece by piece: those of full texts may be very large.
            file = pq.ParquetFile(path, buffer_size=1 << 20)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: this is not a Parquet file ({error}).") from error
        with file:
            row = 0
            for batch in file.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    row += 1
                    yield row, fields


def _named(
    rows: Iterator[Row], names: Sequence[str], aliases: Sequence[str]
) -> Iterator[tuple[int, Sequence[Any] | BadRow]]:
    for place, row in rows:
        if isinstance(row, BadRow):
            yield place, row
            continue
        found = names if names[0] in row or not aliases else aliases
        missing = next((name for name in found if name not in row), None)
        if missing is None:
            yield place, [row[name] for name in found]
        else:
            fields = ", ".join(map(str, row))[:200] or "none"
            yield (
                place,
                BadRow(
                    f"there is no {missing}", f"there is no `{missing}`; the fields are {fields}."
                ),
            )
