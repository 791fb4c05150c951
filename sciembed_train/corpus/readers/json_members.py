"""JSON files: the members of one list or object, read so that one is held at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import BY_RECORD, FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import not_utf8, open_bytes, reading, without_mark
from sciembed_train.errors import UserError


class JsonMembers(FileReader):
    """Reads ``.json`` files: a list of records, an object of records by id, or one record."""

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every member; the key of an object's member is its ``paper_id``."""
        for line, key, value in iter_json(path, options.record_keys):
            yield line, _record(key, value)


def _record(key: str | None, value: Any) -> Mapping[str, Any] | BadRow:
    if not isinstance(value, dict):
        return BadRow("not an object", "this is not an object with fields.")
    if key is None:
        return value
    if str(value.get("paper_id", key)).strip() != key.strip():
        return BadRow(
            "key and paper_id differ",
            f"the key is {key!r} and `paper_id` in it is {value['paper_id']!r}.",
        )
    return {"paper_id": key, **value}


def iter_json(
    path: Path, record_keys: Collection[str] = ()
) -> Iterator[tuple[int, str | None, Any]]:
    """The members of the one list or object of a JSON file: number, key (None in a list), value.

    The number is the member's line, or its place among them where others stand on its line
    (`base.numbered`).

    Only one member is held at a time. A file that is JSON Lines in spite of its ending (a
    second value follows the first) is read as what it is. An object that holds anything but
    objects is one record, and so is one with a key among ``record_keys``.

    Raises:
        UserError: the file is not JSON; the message says where.
    """
    yield from _JsonFile(path, record_keys).members()


class _JsonFile:
    """The state of reading one file; the buffer grows until it holds a whole member."""

    CHUNK = 1 << 20

    def __init__(self, path: Path, record_keys: Collection[str]) -> None:
        self.path = path
        self.record_keys = record_keys
        self.buffer = ""
        self.position = 0
        self.line = 1
        self.ended = False
        self.decoder = json.JSONDecoder()
        self.count, self.last = 0, 0  # members begun, and the line of the last one's end

    def members(self) -> Iterator[tuple[int, str | None, Any]]:
        with reading(self.path), open_bytes(self.path) as raw:
            buffered: Any = raw
            without_mark(buffered.peek(4), self.path)  # refuses UTF-16
            self.text = io.TextIOWrapper(buffered, encoding="utf-8-sig")
            try:
                yield from self._top()
            except UnicodeDecodeError as error:
                raise UserError(f"{self.path}: {not_utf8(error).message}") from error

    def _top(self) -> Iterator[tuple[int, str | None, Any]]:
        opening = self._peek()
        if opening == "":
            return
        if opening not in "[{":
            raise self._error("expected a list or an object")
        first_line = self.line
        self.position += 1
        closing = "]" if opening == "[" else "}"
        first = True
        record: dict[str, Any] = {}
        while True:
            char = self._peek()
            if char == closing:
                self.position += 1
                break
            if not first:
                if char != ",":
                    raise self._error(f"expected ',' or '{closing}'")
                self.position += 1
                self._peek()
            line = self._number(first_line if first else self.last)
            key = None
            if opening == "{":
                key = self._value()
                if not isinstance(key, str):
                    raise self._error("expected a key in quotes")
                if self._peek() != ":":
                    raise self._error("expected ':'")
                self.position += 1
                self._peek()
            value = self._value()
            self.last = self.line
            first = False
            if opening == "{" and (
                record or not isinstance(value, Mapping) or key in self.record_keys
            ):
                # The object is not a collection of records: it is one record.
                record[str(key)] = value
                continue
            yield line, key, value
        if record:
            self.count, self.last = 1, self.line
            yield first_line, None, record
        elif opening == "{" and first:
            self.last = self.line
        while self._peek() != "":
            if self._peek() not in "[{":
                raise self._error("expected the end of the file")
            number = self._number(self.last)
            value = self._value()
            self.last = self.line
            yield number, None, value

    def _number(self, before: int) -> int:
        """The number of the member that begins here; ``before`` is the line of what precedes."""
        self.count += 1
        return self.line if self.line > before else BY_RECORD + self.count

    def _peek(self) -> str:
        """The next character that is no white space; the empty string at the end."""
        while True:
            while self.position < len(self.buffer):
                char = self.buffer[self.position]
                if char == "\n":
                    self.line += 1
                elif char not in " \t\r":
                    return char
                self.position += 1
            if not self._more(self.CHUNK):
                return ""

    def _more(self, size: int) -> bool:
        text = self.text.read(size)
        self.buffer = self.buffer[self.position :] + text
        self.position = 0
        return bool(text)

    def _value(self) -> Any:
        size = self.CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except (ValueError, RecursionError) as error:
                broken = getattr(error, "pos", self.position)
                line = self.line + self.buffer.count("\n", self.position, broken)
                if self._more(size):
                    size *= 2  # a member larger than the buffer: the work stays linear
                    continue
                self.line = line
                raise self._error(getattr(error, "msg", str(error))) from error
            if end == len(self.buffer) and self._more(size):
                continue  # a number may go on in the next chunk
            self.line += self.buffer.count("\n", self.position, end)
            self.position = end
            return value

    def _error(self, problem: str) -> UserError:
        where = f" in record {self.count}" if self.count else ""
        return UserError(
            f"{self.path}:{self.line}: this is not JSON: {problem}{where}. Correct the file."
        )
