"""Readers: one for every format of file that people have, all giving rows with their place.

A `Table` is one input: a file, a folder of files read in the order of their names, or a dataset
of the ``datasets`` library. Files are JSON Lines, JSON, CSV, TSV or Parquet by their ending, each
plain, ``.gz`` or ``.zst`` (Parquet has its own compression). UTF-8; a byte-order mark and CRLF
line ends are tolerated. Rows are streamed; nothing here holds a whole file.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sciembed_train.corpus.validate import BadRow
from sciembed_train.errors import UserError

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".zst")
_FILE = 40  # bits of a row's place that hold its number; the file's number stands above

Row = tuple[int, Mapping[str, Any] | BadRow]
Cells = tuple[int, Sequence[Any] | BadRow]


class Table:
    """One input of rows.

    Args:
        source: a file, a folder of files or of ``Dataset.save_to_disk``, or the name of a dataset
            on the hub, ``owner/name``, ``owner/name:config`` or ``owner/name:config@split``.
        what: what it holds, for messages: ``papers``, ``citations``.

    Raises:
        UserError: there is no such input, or its ending is not known.
    """

    def __init__(self, source: str | Path, what: str) -> None:
        self.source = str(source)
        self.what = what
        self.key = "paper_id" if what == "papers" else None  # a CSV file must have this column
        self.files: list[Path] = []
        self._datasets: list[Any] = []
        path = Path(source)
        if path.is_file():
            self.files = [path]
        elif path.is_dir():
            if _saved_dataset(path):
                self._datasets = _load_saved(path)
                self.files = sorted(p for p in path.rglob("*") if p.is_file())
            else:
                self.files = sorted(p for p in path.iterdir() if p.is_file() and kind_of(p))
                if not self.files:
                    raise UserError(
                        f"{path} holds no file of {what}; endings are {_endings()}, "
                        "or a folder made by Dataset.save_to_disk."
                    )
        elif _is_hub_name(self.source):
            self._datasets = _load_hub(self.source, what)
        else:
            raise UserError(f"{path}: there is no such file or folder ({what}).")
        if not self._datasets:
            for file in self.files:
                if kind_of(file) is None:
                    raise UserError(
                        f"{file}: the ending says no format of {what}; endings are {_endings()}."
                    )

    def where(self, place: int) -> str:
        """A row's place as a message shows it: file and line, or file and row."""
        number, line = place >> _FILE, place & ((1 << _FILE) - 1)
        if self._datasets:
            return f"{self.source}, row {line}"
        file = self.files[number]
        return f"{file}, row {line}" if kind_of(file) == "parquet" else f"{file}:{line}"

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file; the fingerprint of a dataset from the hub."""
        if not self.files:
            return [{"name": self.source, "sha256": _fingerprint(self._datasets), "bytes": None}]
        return [
            {"name": file.name, "sha256": sha256(file), "bytes": file.stat().st_size}
            for file in self.files
        ]

    def rows(self) -> Iterator[Row]:
        """Every row as fields by name, or as a `BadRow`, with its place.

        Raises:
            UserError: a file cannot be read, is damaged, or has no header of column names.
        """
        if self._datasets:
            yield from self._dataset_rows()
            return
        for number, file in enumerate(self.files):
            for line, row in _rows(file, self.key):
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
            if kind_of(file) in ("csv", "tsv"):
                for line, cells in _delimited_cells(file, names, aliases):
                    yield base | line, cells
            else:
                for line, cells in _named(_rows(file, None), names, aliases):
                    yield base | line, cells

    def _dataset_rows(self) -> Iterator[Row]:
        line = 0
        for dataset in self._datasets:
            for row in dataset:
                line += 1
                yield line, row


def kind_of(path: Path) -> str | None:
    """The format a file's ending says, or None."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        kind = ENDINGS.get(suffixes[-2]) if len(suffixes) > 1 else None
        return None if kind == "parquet" else kind
    return ENDINGS.get(suffixes[-1]) if suffixes else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """The lines of a text file, counted from 1, without line ends; empty ones left out.

    Raises:
        UserError: the file cannot be read, is damaged, or is UTF-16.
    """
    with _reading(path), _bytes(path) as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = _without_mark(raw, path)
            raw = raw.rstrip(b"\r\n")
            if not raw or raw.isspace():
                continue
            try:
                yield number, raw.decode()
            except UnicodeDecodeError as error:
                yield number, _not_utf8(raw, error)


def iter_json(path: Path) -> Iterator[tuple[int, str | None, Any]]:
    """The members of the one list or object of a JSON file: line, key (None in a list), value.

    Only one member is held at a time. A file that is JSON Lines in spite of its ending (a
    second value follows the first) is read as what it is.

    Raises:
        UserError: the file is not JSON; the message says where.
    """
    yield from _JsonFile(path).members()


class _JsonFile:
    """A JSON file read member by member, through a buffer that grows as a member needs."""

    CHUNK = 1 << 20

    def __init__(self, path: Path) -> None:
        self.path = path
        self.buffer = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self.decoder = json.JSONDecoder()

    def members(self) -> Iterator[tuple[int, str | None, Any]]:
        with _reading(self.path), _bytes(self.path) as raw:
            head = raw.read(4)
            head = _without_mark(head, self.path)
            pushed: Any = _Pushed(head, raw)
            self.text = io.TextIOWrapper(pushed, encoding="utf-8")
            try:
                yield from self._top()
            except UnicodeDecodeError as error:
                raise UserError(f"{self.path}: {_not_utf8(b'', error).message}") from error

    def _top(self) -> Iterator[tuple[int, str | None, Any]]:
        opening = self._peek()
        if opening == "":
            return
        if opening not in "[{":
            raise self._error("expected a list or an object")
        start = self.at, self.line
        self.at += 1
        closing = "]" if opening == "[" else "}"
        first = True
        flat: dict[str, Any] = {}
        while True:
            char = self._peek()
            if char == closing:
                self.at += 1
                break
            if not first:
                if char != ",":
                    raise self._error(f"expected ',' or '{closing}'")
                self.at += 1
                self._peek()
            line = self.line
            key = None
            if opening == "{":
                key = self._value()
                if not isinstance(key, str):
                    raise self._error("expected a key in quotes")
                if self._peek() != ":":
                    raise self._error("expected ':'")
                self.at += 1
                self._peek()
            value = self._value()
            first = False
            if opening == "{" and not isinstance(value, Mapping):
                # The object is not a collection of records: it is one record.
                flat[str(key)] = value
                continue
            if flat:
                flat[str(key)] = value
                continue
            yield line, key, value
        if flat:
            yield start[1], None, flat
        while self._peek() != "":
            if self._peek() not in "[{":
                raise self._error("expected the end of the file")
            line = self.line
            yield line, None, self._value()

    def _peek(self) -> str:
        """The next character that is no white space; the empty string at the end."""
        while True:
            while self.at < len(self.buffer):
                char = self.buffer[self.at]
                if char == "\n":
                    self.line += 1
                elif char not in " \t\r":
                    return char
                self.at += 1
            if not self._more(self.CHUNK):
                return ""

    def _more(self, size: int) -> bool:
        text = self.text.read(size)
        self.buffer = self.buffer[self.at :] + text
        self.at = 0
        return bool(text)

    def _value(self) -> Any:
        size = self.CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
            except (ValueError, RecursionError) as error:
                broken = getattr(error, "pos", self.at)
                line = self.line + self.buffer.count("\n", self.at, broken)
                if self._more(size):
                    size *= 2  # a member larger than the buffer: the work stays linear
                    continue
                self.line = line
                raise self._error(getattr(error, "msg", str(error))) from error
            if end == len(self.buffer) and self._more(size):
                continue  # a number may go on in the next chunk
            self.line += self.buffer.count("\n", self.at, end)
            self.at = end
            return value

    def _error(self, what: str) -> UserError:
        return UserError(f"{self.path}:{self.line}: this is not JSON: {what}. Correct the file.")


class _Pushed(io.RawIOBase):
    """A stream with some bytes put back at its start."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self.head, self.rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self.head or self.rest.read(len(target))
        data, self.head = data[: len(target)], data[len(target) :]
        target[: len(data)] = data
        return len(data)


class _Zstd(io.RawIOBase):
    """Decompressed bytes. The library's own reader takes a file cut short for its end."""

    def __init__(self, raw: BinaryIO, library: Any) -> None:
        self.raw, self.library = raw, library
        self.frame: Any = None
        self.left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self.left:
            data = self.frame.unused_data if self.frame is not None and self.frame.eof else b""
            data = data or self.raw.read(1 << 17)
            if not data:
                if self.frame is not None and not self.frame.eof:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            if self.frame is None or self.frame.eof:
                self.frame = self.library.ZstdDecompressor().decompressobj()
            self.left = self.frame.decompress(data)
        part, self.left = self.left[: len(target)], self.left[len(target) :]
        target[: len(part)] = part
        return len(part)


def _rows(path: Path, needed: str | None) -> Iterator[Row]:
    kind = kind_of(path)
    if kind == "jsonl":
        for line, text in read_lines(path):
            yield line, text if isinstance(text, BadRow) else _json_row(text)
    elif kind == "json":
        for line, key, value in iter_json(path):
            if not isinstance(value, dict):
                yield line, BadRow("not an object", "this is not an object with fields.")
            elif key is not None and str(value.get("paper_id", key)).strip() != key.strip():
                what = f"the key is {key!r} and `paper_id` in it is {value['paper_id']!r}."
                yield line, BadRow("key and paper_id differ", what)
            elif key is not None and "paper_id" not in value:
                yield line, {"paper_id": key, **value}
            else:
                yield line, value
    elif kind == "parquet":
        yield from _parquet_rows(path)
    else:
        yield from _delimited_rows(path, needed)


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
        raise _needs("pyarrow", "Parquet files") from error

    with _reading(path):
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: this is not a Parquet file ({error}).") from error
        with file:
            row = 0
            for batch in file.iter_batches(batch_size=4096):
                for fields in batch.to_pylist():
                    row += 1
                    yield row, fields


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
        with _reading(self.path), _bytes(self.path) as file:
            for raw in file:
                self.number += 1
                if self.number == 1:
                    raw = _without_mark(raw, self.path)
                try:
                    yield raw.decode()
                except UnicodeDecodeError as error:
                    self.broken = self.number, _not_utf8(raw, error)
                    yield "\n"
        self.ended = True


def _delimited_rows(path: Path, needed: str | None) -> Iterator[Row]:
    names: list[str] | None = None
    for line, cells in _delimited(path):
        if isinstance(cells, BadRow):
            yield line, cells
        elif names is None:
            names = [cell.strip() for cell in cells]
            twice = {n for n in names if n and names.count(n) > 1}
            if twice:
                raise UserError(f"{path}:{line}: two columns are called {sorted(twice)[0]!r}.")
            if needed and needed not in names:
                raise UserError(
                    f"{path}:{line}: the first line names the columns, and `{needed}` is not "
                    f"among them: {', '.join(names)[:200]}."
                )
        elif len(cells) != len(names):
            yield line, _wrong_count(len(cells), f"the header has {len(names)}")
        else:
            yield line, dict(zip(names, cells, strict=True))


def _delimited_cells(
    path: Path, names: Sequence[str], aliases: Sequence[str]
) -> Iterator[tuple[int, Sequence[Any] | BadRow]]:
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


def _without_mark(raw: bytes, path: Path) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16; save it as UTF-8.")
    return raw.removeprefix(b"\xef\xbb\xbf")


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> BadRow:
    byte = error.object[error.start]
    return BadRow(
        "not UTF-8",
        f"this is not UTF-8: byte {byte:#04x} at position {error.start + 1}. "
        "Save the file as UTF-8.",
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into words."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{path} is damaged or not what its ending says: {error}. Fetch it again."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        # zstandard's error has no common base and the library may be absent.
        if type(error).__name__ == "ZstdError":
            raise UserError(
                f"{path} is damaged or not what its ending says: {error}. Fetch it again."
            ) from error
        raise


@contextmanager
def _bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed by its ending."""
    ending = path.suffix.lower()
    if ending == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise _needs("zstandard", ".zst files") from error
        with path.open("rb") as raw, io.BufferedReader(_Zstd(raw, zstandard), 1 << 18) as file:
            yield file  # pyright: ignore[reportReturnType]
    elif ending == ".gz":
        with gzip.open(path, "rb") as file:
            yield file  # pyright: ignore[reportReturnType]
    else:
        with path.open("rb", buffering=1 << 18) as file:
            yield file


def _needs(package: str, what: str) -> UserError:
    return UserError(
        f"{what} need the package {package}, which is not installed: "
        "pip install 'sciembed_train[prepare,datasets]'."
    )


def _endings() -> str:
    plain = ", ".join(ENDINGS)
    return f"{plain}, and all but Parquet with {' or '.join(COMPRESSED)} added"


def _saved_dataset(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@\w+)?", name) is not None and (
        kind_of(Path(name)) is None and Path(name).suffix not in (*COMPRESSED, ".txt")
    )


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise _needs("datasets", "datasets of the datasets library") from error
    return datasets


def _load_saved(path: Path) -> list[Any]:
    library = _library()
    try:
        loaded = library.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a damaged folder
        raise UserError(f"{path} could not be loaded as a dataset: {error}") from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def _load_hub(name: str, what: str) -> list[Any]:
    try:
        library = _library()
    except UserError as error:
        raise UserError(
            f"{name}: there is no such file or folder ({what}). "
            f"If it is a dataset on the hub: {error}"
        ) from error
    base, _, split = name.partition("@")
    repository, _, config = base.partition(":")
    try:
        loaded = library.load_dataset(repository, config or None, split=split or None)
    except Exception as error:  # network, unknown name, config or split: many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: there is no such file or folder ({what}), and no dataset of that name could "
            f"be loaded: {reason}"
        ) from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def _fingerprint(parts: Sequence[Any]) -> str:
    text = " ".join(part._fingerprint for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()
