"""BibTeX files: one row an entry, with the line on which it starts.

As BibTeX reads them: text between entries is a comment, brackets count even after a backslash, and
names of ``@string`` stand for their text. Unlike it, an entry that is not closed ends where the
next one begins, so that one fault is one bad row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import MAX_LINE, read_lines, too_long
from sciembed_train.errors import UserError

_OPENING = re.compile(r"@\s*([A-Za-z]+)\s*([{(])")
_BEGINS = re.compile(r"\s*@\s*[A-Za-z]+\s*[{(]")
_NAME = re.compile(r"[\s,]*([^\s,={}\"#@()']+)\s*=\s*")
_BARE = re.compile(r"[^\s,={}\"#()]+")
_JOIN = re.compile(r"\s*#\s*")
_BLANK = re.compile(r"[\s,]*")
_SIGNS = {sign: re.compile(rf"[{{}}{re.escape(sign)}]") for sign in '})"'}
_CLOSING = {"{": "}", "(": ")"}


class BibtexFile(FileReader):
    """Reads ``.bib`` files.

    A row has ``ENTRYTYPE``, ``ID`` (the key) and the fields by their lower-case names.
    """

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every entry of a kind that stands for a work."""
        strings: dict[str, str] = {}
        any_entry = any_text = False
        for start, text in _blocks(path):
            any_text = True
            if isinstance(text, BadRow):
                any_entry = True
                yield start, text
                continue
            for place, entry in _Block(text, strings).entries():
                any_entry = True
                if entry is not None:
                    yield start + text.count("\n", 0, place), entry
        if any_text and not any_entry:
            raise UserError(
                f"{path}: there is no entry of BibTeX, such as @article{{key, title = {{...}}}}. "
                "Give the file that has them."
            )


def _blocks(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """Entries, each with its first line; several where they share a line.

    Text between entries is a block too, so that a bracket too many in it can be reported.
    """
    lines: list[str] = []
    start, depth, size = 1, 0, 0
    skipping = False  # after a line that cannot be read: what follows belongs to its entry
    for number, line in read_lines(path):
        if isinstance(line, BadRow):
            lines, depth, skipping = [], 0, True
            yield number, line
            continue
        if _BEGINS.match(line):
            if depth > 0:
                yield start, _unclosed()
            lines, depth, skipping = [], 0, False
        if skipping:
            continue
        if depth == 0:
            lines, start, size = [], number, 0
        lines += [""] * (number - start - len(lines))  # blank lines, for the numbers of the others
        lines.append(line)
        size += len(line)
        if size > MAX_LINE:
            raise too_long(f"{path}:{start}", "an entry")
        depth = max(0, depth + _opened(line, lines[0])) if _OPENING.search(lines[0]) else 0
        if depth == 0:
            yield start, "\n".join(lines)
    if depth > 0:
        yield start, _unclosed()


def _opened(line: str, first: str) -> int:
    """How many brackets of the kind that ends an entry a line opens more than it closes."""
    depth = line.count("{") - line.count("}")
    opening = _OPENING.search(first)
    if opening is not None and opening[2] == "(":
        depth += line.count("(") - line.count(")")
    return depth


def _unclosed() -> BadRow:
    return BadRow(
        "not an entry",
        "this entry is never closed: a bracket { or a quotation mark in it has no other half.",
    )


class _Fault(Exception):
    """What is wrong in an entry, and where."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(problem)
        self.place = place


class _Block:
    """A text of entries, and the names of ``@string`` before it."""

    def __init__(self, text: str, strings: dict[str, str]) -> None:
        self.text, self.strings = text, strings
        self.at = 0

    def entries(self) -> Iterator[tuple[int, dict[str, str] | BadRow | None]]:
        """The entries with their places; None for one that stands for no work."""
        while True:
            opening = _OPENING.search(self.text, self.at)
            between = self.text[self.at : opening.start() if opening else None]
            if "}" in between and between.count("}") > between.count("{"):
                problem = "a bracket } closes here that none opens; an entry may end too early."
                yield self.at + between.index("}"), BadRow("not an entry", problem)
            if opening is None:
                return
            self.at = opening.end()
            try:
                entry = self._entry(opening[1], _CLOSING[opening[2]])
            except _Fault as fault:
                line = self.text.count("\n", opening.start(), fault.place) + 1
                where = f", in line {line} of the entry" if line > 1 else ""
                yield opening.start(), BadRow("not an entry", f"{fault}{where}.")
                return
            yield opening.start(), entry

    def _entry(self, kind: str, closing: str) -> dict[str, str] | None:
        kind = kind.lower()
        if kind in ("comment", "preamble"):
            self._skip(closing)
            return None
        if kind == "string":
            fields = self._fields(closing)
            self.strings.update(fields)
            return None
        end = min(
            (place for sign in (",", closing) if (place := self.text.find(sign, self.at)) >= 0),
            default=-1,
        )
        key = self.text[self.at : end].strip() if end >= 0 else ""
        if not key or "=" in key:
            raise _Fault(self.at, f"this entry has no key; expected @{kind}{{key, ...}}")
        self.at = end
        fields = self._fields(closing)
        return {"ENTRYTYPE": kind, "ID": key, **fields}

    def _fields(self, closing: str) -> dict[str, str]:
        """The fields of an entry up to its end; of a repeated name the first."""
        fields: dict[str, str] = {}
        while True:
            blank = _BLANK.match(self.text, self.at)
            self.at = blank.end() if blank is not None else self.at
            if self.text.startswith(closing, self.at):
                self.at += 1
                return fields
            named = _NAME.match(self.text, self.at)
            if named is None:
                rest = self.text[self.at : self.at + 30].split("\n")[0]
                raise _Fault(self.at, f"expected `name = {{value}}`, and there is {rest!r}")
            self.at = named.end()
            value = " ".join(self._value(named[1]).split())
            fields.setdefault(named[1].lower(), value)

    def _value(self, name: str) -> str:
        parts = [self._part(name)]
        while join := _JOIN.match(self.text, self.at):
            self.at = join.end()
            parts.append(self._part(name))
        return "".join(parts)

    def _part(self, name: str) -> str:
        sign = self.text[self.at : self.at + 1]
        if sign in ("{", '"'):
            self.at += 1
            return self._skip("}" if sign == "{" else '"')
        bare = _BARE.match(self.text, self.at)
        if bare is None:
            raise _Fault(self.at, f"`{name}` has no value")
        self.at = bare.end()
        return self.strings.get(bare[0].lower(), bare[0])

    def _skip(self, closing: str) -> str:
        """The text up to a sign outside brackets, after which reading goes on."""
        depth, start = 0, self.at
        for match in _SIGNS[closing].finditer(self.text, self.at):
            sign = match[0]
            if sign == closing and depth == 0:
                self.at = match.end()
                return self.text[start : match.start()]
            if sign in "{}":
                depth += 1 if sign == "{" else -1
                if depth < 0:
                    break
        raise _Fault(start, f"a text that begins here has no end {closing}")
