"""Text with a tag at the beginning of each line: RIS, and PubMed's own format (MEDLINE)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.line_faults import CR_ALONE
from sciembed_train.errors import UserError


@dataclass(frozen=True)
class TaggedText(FileReader):
    """Reads records of tags; a line without one goes on with the value before it.

    A row has the list of values of each tag, and ``PLACE``, the file's name and the record's line.

    Args:
        name: of the format.
        tag: a pattern with the tag and the value of a line.
        first: the tag with which a record begins.
        last: the tag that ends it; None where the next one does.
    """

    name: str
    tag: str
    first: str
    last: str | None = None

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every record."""
        tagged = re.compile(self.tag)
        record: dict[str, list[str]] | None = None
        start, current, any_text, any_record = 0, "", False, False
        for number, line in read_lines(path):
            any_text = True
            if isinstance(line, BadRow):
                yield number, line
                continue
            if "\r" in line and any(map(tagged.match, line.split("\r")[1:])):
                raise UserError(f"{path}:{number}: {CR_ALONE}")
            match = tagged.match(line)
            if match is None:
                if record is not None and current:
                    record[current][-1] = f"{record[current][-1]} {line.strip()}".strip()
                continue
            current = match[1].strip()
            if record is not None and current in (self.first, self.last):
                yield start, self._ended(record, current)
                record, current = None, "" if current == self.last else current
            if current == self.first:
                any_record = True
                record, start = {"PLACE": [f"{path.name}:{number}"]}, number
            if record is not None and current:
                record.setdefault(current, []).append((match[2] or "").strip())
        if record is not None:
            yield start, self._ended(record, None)
        if any_text and not any_record:
            raise UserError(
                f"{path}: there is no record of {self.name}, which begins with the tag "
                f"{self.first}. Give the file that has them."
            )

    def _ended(self, record: dict[str, list[str]], by: str | None) -> dict[str, list[str]] | BadRow:
        """A record that ended as it should."""
        if by == self.last or self.last is None:
            return record
        return BadRow(
            "a record without an end",
            f"this record has no line `{self.last}` at its end. Add it, or fetch the file again.",
        )


RIS = TaggedText("RIS", r"([A-Z][A-Z0-9])  -(?:\s(.*))?$", "TY", "ER")
MEDLINE = TaggedText("PubMed's text format", r"([A-Z][A-Z ]{3})-(?:\s(.*))?$", "PMID")
