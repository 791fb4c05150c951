"""Checks of one row: paper ids, papers, and how a wrong value is shown in a message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sciembed_train.corpus.audit import BadRow

if TYPE_CHECKING:
    from sciembed_train.corpus.readers.record_formats import PaperRecord

MAX_ID = 4096  # characters; the longest ids are addresses
MIN_YEAR, MAX_YEAR = 1500, 2100
_YEAR = re.compile(r"(?<!\d)(1[5-9]|20)\d\d(?!\d)")


def spell(value: Any) -> str:
    """A value as a message shows it: its kind and its beginning."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {_short(value)}"
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(repr, list(value)[:3])) or 'nothing in it'}"
    if isinstance(value, bytes):
        return f"binary data of {len(value)} bytes"
    if isinstance(value, Sequence):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def read_id(value: Any, name: str) -> str:
    """A paper id as text; integers are their digits, so that 7 and "7" are one paper.

    Raises:
        BadRow: it is empty, longer than `MAX_ID`, or of another type.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise BadRow(f"{name} is empty", f"`{name}` is empty; expected a paper id.")
        if len(text) > MAX_ID:
            raise too_long_id(name, len(text))
        if not text.isascii() and not is_unicode(text):
            raise not_unicode(name)
        return text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # a table with gaps stores ids so
        return str(int(value))
    if value != value:
        raise BadRow(f"{name} is empty", f"`{name}` is empty; expected a paper id.")
    raise wrong_type(name, value, "text or an integer")


def too_long_id(name: str, length: int) -> BadRow:
    """The fault of an id above `MAX_ID`."""
    return BadRow(
        f"{name} is too long",
        f"`{name}` is a text of {length:,} characters; expected a paper id of at most {MAX_ID:,}.",
    )


def wrong_type(name: str, value: Any, expected: str, where: str = "") -> BadRow:
    """The fault of a field of another type than expected."""
    message = f"`{name}`{where} is {spell(value)}; expected {expected}."
    return BadRow(f"{name} has a wrong type", message)


@dataclass(frozen=True)
class Paper:
    """A validated row of the papers: ``abstract`` is text, or a tuple of sentences.

    ``year`` is None where it is unknown; see `PaperRecord` for the others.
    """

    paper_id: str
    title: str
    abstract: str | tuple[str, ...]
    year: int | None = None
    other_ids: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    cited_by: tuple[str, ...] = ()
    fields_of_study: tuple[str, ...] = ()
    completes: bool = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """The abstract in its parts: one where it is one text."""
        return (self.abstract,) if isinstance(self.abstract, str) else self.abstract


def read_paper(record: PaperRecord) -> Paper:
    """Check the paper that a row describes; may raise `BadRow`."""
    paper_id = read_id(record.paper_id, "paper_id")
    title = _text(record.title)
    if title is None:
        raise wrong_type("title", record.title, "text or null")
    abstract = record.abstract
    body: str | tuple[str, ...] | None = _text(abstract)
    if isinstance(abstract, list | tuple):
        for i, sentence in enumerate(abstract):
            if _text(sentence) is None:
                message = f"sentence {i + 1} of `abstract` is {spell(sentence)}; expected text."
                raise BadRow("abstract has a wrong type", message)
        body = tuple(s for s in map(_text, abstract) if s)
    if body is None:
        raise wrong_type("abstract", abstract, "text, a list of sentences, or null")
    for name, part in (("title", title), ("abstract", body)):
        if not all(map(is_unicode, (part,) if isinstance(part, str) else part)):
            raise not_unicode(name)
    return Paper(
        paper_id,
        title,
        body,
        read_year(record.year),
        read_ids(record.other_ids),
        read_ids(record.references),
        read_ids(record.cited_by),
        tuple(record.fields_of_study),
        record.completes,
    )


def read_year(value: Any) -> int | None:
    """The year of a number or a date; None where it could not be a paper's."""
    if isinstance(value, bool) or value is None or value != value:
        return None
    if isinstance(value, int | float):
        year = int(value) if abs(value) < MAX_YEAR else 0
    else:
        match = _YEAR.search(str(value))
        year = int(match[0]) if match else 0
    return year if MIN_YEAR <= year <= MAX_YEAR else None


def read_ids(values: Sequence[Any]) -> tuple[str, ...]:
    """Ids of other papers; values that are no id, as a reference without one, are left out."""
    if not values:
        return ()
    ids = []
    for value in values:
        try:
            ids.append(read_id(value, "id"))
        except BadRow:
            continue  # a reference that names no paper
    return tuple(ids)


def _text(value: Any) -> str | None:
    """The text of a field, empty for null and NaN (a table's empty cell); None for other types."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    # JSON may spell half of a surrogate pair, which no UTF-8 file can hold.
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_unicode(name: str) -> BadRow:
    """The fault of a text that cannot be written as UTF-8."""
    return BadRow(
        f"{name} is not Unicode text",
        f"`{name}` holds half of a surrogate pair (\\ud800 to \\udfff), no character.",
    )


def missing_field(name: str, row: Mapping[str, Any], where: str = "") -> BadRow:
    """The fault of a row without a field or its value; ``where`` names an object in the row."""
    if name in row:
        return BadRow(f"there is no {name}", f"`{name}`{where} has no value; expected one.")
    fields = ", ".join(map(str, row))[:200] or "none"
    return BadRow(f"there is no {name}", f"there is no `{name}`{where}; the fields are {fields}.")


def repeated_id(paper_id: str, first_place: str, kind: str) -> BadRow:
    """The fault of a row whose id another row has; ``kind`` is ``paper`` or ``document``."""
    return BadRow(
        "paper_id given twice",
        f"`paper_id` {paper_id!r} was given before, at {first_place}; every {kind} has its own.",
    )
