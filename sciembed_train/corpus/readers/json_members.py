"""JSON files: the members of one list or object, read so that one is held at a time."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import BY_RECORD, FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.envelopes import (
    is_list_of_records,
    is_message,
    may_begin,
    record,
    records_of,
)
from sciembed_train.corpus.readers.files import (
    MAX_LINE,
    open_bytes,
    place_not_utf8,
    reading,
    refuse_nul,
    too_long,
    without_mark,
)
from sciembed_train.corpus.readers.line_faults import json_problem
from sciembed_train.errors import UserError

Member = tuple[int, str | None, Any]

# A work of Crossref begins with an object, as an object of records by id does.
RECORD_KEYS = ("indexed",)
_BLANKS = re.compile(r"[ \t\r\n]*")


class JsonMembers(FileReader):
    """Reads ``.json`` files: a list of records, an object of records by id, or one record.

    The list may be in an API's answer, or hold such answers (`envelopes`).
    """

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every member; the key of an object's member is its ``paper_id``."""
        for line, key, value in iter_json(path, (*options.record_keys, *RECORD_KEYS)):
            yield line, record(value) if key is None else _keyed(key, value)


def _keyed(key: str, value: Any) -> Mapping[str, Any] | BadRow:
    if not isinstance(value, dict):
        return BadRow("not an object", "this is not an object with fields.")
    if str(value.get("paper_id", key)).strip() != key.strip():
        return BadRow(
            "key and paper_id differ",
            f"the key is {key[:80]!r} and `paper_id` in it is {repr(value['paper_id'])[:80]}.",
        )
    return {"paper_id": key, **value}


def iter_json(path: Path, record_keys: Collection[str] = ()) -> Iterator[Member]:
    """The members of the one list or object of a JSON file: number, key (None in a list), value.

    The number is the member's line, or its place among them where others stand on its line
    (`base.numbered`).

    Only one member is held at a time. A file that is JSON Lines in spite of its ending (a
    second value follows the first) is read as what it is. An object that holds anything but
    objects is one record, and so is one with a key among ``record_keys``. The members of an API's
    answer are its records.

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

    def members(self) -> Iterator[Member]:
        with reading(self.path), open_bytes(self.path) as raw:
            buffered: Any = raw
            refuse_nul(without_mark(buffered.peek(4)[: 1 << 13], self.path), self.path)
            self.text = io.TextIOWrapper(buffered, encoding="utf-8-sig")
            try:
                yield from self._top()
            except UnicodeDecodeError as error:
                line, fault = place_not_utf8(self.path)
                raise UserError(f"{self.path}:{line}: {fault.message}") from error

    def _top(self) -> Iterator[Member]:
        opening = self._peek()
        if opening == "":
            return
        if opening not in "[{":
            raise self._error("expected a list or an object")
        yield from self._list() if opening == "[" else self._object()
        self.last = self.line
        while self._peek() != "":
            if self._peek() not in "[{":
                raise self._error("expected the end of the file")
            number = self._number(self.last)
            yield from self._unwrapped(number, self._value())
            self.last = self.line

    def _list(self) -> Iterator[Member]:
        """The members of the list that begins here."""
        for number in self._places("]"):
            yield from self._unwrapped(number, self._value())

    def _object(self) -> Iterator[Member]:
        """The members of the object that begins here, the object itself, or an answer's records."""
        first_line = self.line
        held: dict[str, tuple[int, Any]] = {}  # the first members, while it may be an answer
        undecided, answered = True, False
        record: dict[str, Any] = {}  # where it is one record
        for number in self._places("}"):
            key = self._key()
            if undecided and self._peek() == "[" and is_list_of_records(key, held):
                self.count, undecided, answered, held = 0, False, True, {}
                yield from self._list()
                continue
            value = self._value()
            if answered:  # what follows the records
                self.count -= 1
                continue
            if undecided and is_message(key, value, held):
                self.count, undecided, answered, held = 1, False, True, {}
                yield from self._unwrapped(BY_RECORD + 1, {key: value})
                continue
            held[key] = number, value
            undecided = undecided and may_begin(held)
            if not undecided:
                yield from self._members(held, record)
                held = {}
        yield from self._members(held, record)
        if record:
            self.count, self.last = 1, self.line
            yield from self._unwrapped(first_line, record)

    def _members(
        self, members: Mapping[str, tuple[int, Any]], record: dict[str, Any]
    ) -> Iterator[Member]:
        """Members of an object of records by id; those that are no records go into ``record``."""
        if not record and any(key in self.record_keys for key in members):
            record.update({key: value for key, (_, value) in members.items()})
            return
        for key, (number, value) in members.items():
            if record or not isinstance(value, Mapping):
                record[key] = value
            else:
                yield number, key, value

    def _unwrapped(self, number: int, value: Any) -> Iterator[Member]:
        """A value of a list, or the records in it where it is an answer."""
        records = records_of(value)
        if records is None:
            yield number, None, value
            return
        self.count -= 1
        for each in records:
            self.count += 1
            yield BY_RECORD + self.count, None, each

    def _places(self, closing: str) -> Iterator[int]:
        """The number of every member of the list or object that begins here, before it is read."""
        first_line, first = self.line, True
        self.position += 1
        while True:
            char = self._peek()
            if char == closing:
                self.position += 1
                return
            if not first:
                if char != ",":
                    raise self._error(f"expected ',' or '{closing}'")
                self.position += 1
                self._peek()
            yield self._number(first_line if first else self.last)
            self.last = self.line
            first = False

    def _number(self, before: int) -> int:
        """The number of the member that begins here; ``before`` is the line of what precedes."""
        self.count += 1
        return self.line if self.line > before else BY_RECORD + self.count

    def _key(self) -> str:
        """The key of an object's member; its value begins after it."""
        key = self._value()
        if not isinstance(key, str):
            raise self._error("expected a key in quotes")
        if self._peek() != ":":
            raise self._error("expected ':'")
        self.position += 1
        self._peek()
        return key

    def _peek(self) -> str:
        """The next character that is no white space; the empty string at the end."""
        while True:
            end = _blanks(self.buffer, self.position)
            self.line += self.buffer.count("\n", self.position, end)
            self.position = end
            if end < len(self.buffer):
                return self.buffer[end]
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
                if self._may_go_on(error) and self._more(size):
                    size *= 2  # a member larger than the buffer: the work stays linear
                    if len(self.buffer) > MAX_LINE:
                        raise too_long(f"{self.path}:{self.line}", "a record") from error
                    continue
                self.line = line
                raise self._error(json_problem(error)) from error
            if end == len(self.buffer) and self._more(size):
                continue  # a number may go on in the next chunk
            self.line += self.buffer.count("\n", self.position, end)
            self.position = end
            return value

    def _may_go_on(self, error: Exception) -> bool:
        """Whether a value that cannot be read may only lack what follows in the file."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        # A word, a number or an escape is cut off at most this far before the buffer's end.
        rest = self.buffer[error.pos : error.pos + 4096].rstrip()
        return error.msg.startswith("Unterminated string") or len(rest) < 16

    def _error(self, problem: str) -> UserError:
        where = f" in record {self.count}" if self.count else ""
        return UserError(
            f"{self.path}:{self.line}: this is not JSON: {problem}{where}. Correct the file."
        )


def _blanks(text: str, start: int) -> int:
    """Where the white space that begins at a position ends."""
    match = _BLANKS.match(text, start)
    assert match is not None  # it matches nothing, too
    return match.end()
