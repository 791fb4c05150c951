"""Row-level checks, the budget of bad rows, and the account of everything left out.

Two kinds of rows are not used. *Malformed* rows (not JSON, a missing field, a wrong type, an id
given twice) stop the program unless ``max_bad_rows`` allows for them. *Ordinary* ones (a paper
without text, a self-citation, a citation given twice or of an unknown paper) are counted and
never fatal. Both stand in ``report.json`` with their reason, their number and some examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sciembed_train.errors import UserError

EXAMPLES = 20  # places listed per reason; the count is always whole


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Args:
        reason: its kind, a few words; rows are counted by it.
        message: what was found and what was expected.
    """

    reason: str
    message: str


@dataclass
class Dropped:
    """How many rows were left out for one reason, and where the first of them stand."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, place: str, count: int = 1) -> None:
        """Count a row, and remember its place while there are few."""
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(place)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {"count": self.count, "examples": self.examples}


class Audit:
    """What was read from one input, what was left out, and why.

    Args:
        name: the input: ``papers``, ``citations``.
        max_bad_rows: malformed rows that are skipped before the program refuses.
    """

    def __init__(self, name: str, max_bad_rows: int = 0) -> None:
        self.name = name
        self.max_bad_rows = max_bad_rows
        self.rows = 0
        self.kept = 0
        self.dropped: dict[str, Dropped] = {}
        self.notes: list[str] = []
        self._bad: dict[str, Dropped] = {}
        self._first: dict[str, str] = {}

    def drop(self, reason: str, place: str, count: int = 1) -> None:
        """Count an ordinary row that is not used."""
        self.dropped.setdefault(reason, Dropped()).add(place, count)

    def bad(self, row: BadRow, place: str) -> None:
        """Count a malformed row."""
        self._first.setdefault(row.reason, f"{place}: {row.message}")
        self._bad.setdefault(row.reason, Dropped()).add(place)

    @property
    def n_bad(self) -> int:
        """Malformed rows so far."""
        return sum(dropped.count for dropped in self._bad.values())

    def check(self) -> None:
        """Refuse when there were more malformed rows than allowed.

        Raises:
            UserError: the first row of each kind, how many there are, and how to skip them.
        """
        if self.n_bad <= self.max_bad_rows:
            return
        lines = []
        for reason, dropped in self._bad.items():
            are = "is" if dropped.count == 1 else "are"
            lines.append(
                f"{self._first[reason]} {dropped.count:,} of {self.rows:,} rows {are} like this."
            )
        them = "it" if self.n_bad == 1 else "them"
        lines.append(
            f"Correct {them}, or skip {them} with --max-bad-rows {self.n_bad} "
            f"(in fit --data.max_bad_rows {self.n_bad})."
        )
        raise UserError(" ".join(lines) if len(lines) == 2 else "\n".join(lines))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "malformed": {reason: d.as_dict() for reason, d in self._bad.items()},
            "dropped": {reason: d.as_dict() for reason, d in self.dropped.items()},
            "notes": self.notes,
        }


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
    if isinstance(value, Sequence):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def read_id(value: Any, name: str) -> str | BadRow:
    """A paper id as text; integers are their digits, so that 7 and "7" are one paper."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return BadRow(f"{name} is empty", f"`{name}` is empty; expected a paper id.")
        if not text.isascii() and not is_unicode(text):
            return half_pair(name)
        return text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return BadRow(
        f"{name} has a wrong type",
        f"`{name}` is {spell(value)}; expected text or an integer.",
    )


@dataclass(frozen=True)
class Paper:
    """A validated row of the papers: ``abstract`` is text, or a tuple of sentences."""

    paper_id: str
    title: str
    abstract: str | tuple[str, ...]


def read_paper(row: Mapping[str, Any]) -> Paper | BadRow:
    """Check one row of the papers: ``paper_id``, ``title``, ``abstract``."""
    for name in ("paper_id", "title"):
        if name not in row:
            return BadRow(
                f"there is no {name}",
                f"there is no `{name}`; the fields are {', '.join(map(str, row)) or 'none'}.",
            )
    paper_id = read_id(row["paper_id"], "paper_id")
    if isinstance(paper_id, BadRow):
        return paper_id
    title = _text(row["title"])
    if title is None:
        return BadRow(
            "title has a wrong type",
            f"`title` is {spell(row['title'])}; expected text or null.",
        )
    abstract = row.get("abstract")
    if isinstance(abstract, list | tuple):
        for i, sentence in enumerate(abstract):
            if _text(sentence) is None:
                return BadRow(
                    "abstract has a wrong type",
                    f"sentence {i + 1} of `abstract` is {spell(sentence)}; expected text.",
                )
        body: str | tuple[str, ...] = tuple(s for s in map(_text, abstract) if s)
    else:
        text = _text(abstract)
        if text is None:
            return BadRow(
                "abstract has a wrong type",
                f"`abstract` is {spell(abstract)}; expected text, a list of sentences, or null.",
            )
        body = text
    for name, part in (("title", title), ("abstract", body)):
        if not all(map(is_unicode, (part,) if isinstance(part, str) else part)):
            return half_pair(name)
    return Paper(paper_id, title, body)


def _text(value: Any) -> str | None:
    """The text of a field, empty for null (and NaN, which tables write for it); None: neither."""
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


def half_pair(name: str) -> BadRow:
    """What is wrong with a text that cannot."""
    return BadRow(
        f"{name} is not Unicode text",
        f"`{name}` holds half of a surrogate pair (\\ud800 to \\udfff), no character.",
    )
