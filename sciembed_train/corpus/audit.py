"""The account of everything left out of a corpus, and the budget of malformed rows.

*Malformed* rows (not JSON, a missing field, a wrong type, an id that appears twice) stop the
program unless ``max_bad_rows`` allows for them. *Ordinary* ones that are not used (a paper without
text, a self-citation, a citation of an unknown paper) are counted and never fatal. Both stand in
``report.json`` with their reason, their number and examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from sciembed_train.progress import Stage

T = TypeVar("T")

# From this share of malformed rows, of at least so many, skipping them is not advised.
NEARLY_ALL, FEW = 0.9, 10
# The fields that a row of each input has, for messages.
EXPECTED = {
    "papers": "`paper_id`, `title` and `abstract` (text, a list of sentences, or null)",
    "citations": "`citing` and `cited`, ids of papers",
    "pairs": "`query`, `positive` and `negative`, ids of papers",
    "contexts": "`text` and `cited_ids`, a list of ids of papers",
    "cocitations": "`paper_a`, `paper_b` and, if you like, `count`",
    "fulltexts": "`text`, or a record of S2ORC or unarXive",
}
EXAMPLES = 20  # places listed per reason; the count is always complete


@dataclass(unsafe_hash=True)
class BadRow(Exception):
    """A row that cannot be read: readers yield it in the row's place, checks of a row raise it.

    Rows are counted by their ``reason``, a few words; the ``message`` has the value and what is
    expected. An ``ordinary`` one is left out and never fatal.
    """

    reason: str
    message: str
    ordinary: bool = False


@dataclass
class Dropped:
    """How many rows were left out for one reason, and where the first of them stand."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, place: str, count: int = 1) -> None:
        """Count a row, and keep its place as an example up to `EXAMPLES` of them."""
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(place)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {"count": self.count, "examples": self.examples}


class Reasons(dict[str, Dropped]):
    """What was left out, by reason."""

    def add(self, reason: str, place: str, count: int = 1) -> None:
        """Count a row; see `Dropped.add`."""
        self.setdefault(reason, Dropped()).add(place, count)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {reason: dropped.as_dict() for reason, dropped in self.items()}


class InputFacts(Protocol):
    """What an audit needs to know of an input.

    Attributes:
        columns: the names of its columns, as its first row has them.
        empty_files: those of its files that have no row.
    """

    columns: list[str]
    empty_files: list[Path]


class Audit:
    """What was read from one input (``papers``, ``citations``), what was left out, and why.

    ``max_bad_rows`` malformed rows are skipped before the program refuses. ``table`` says what
    columns were read, for advice where nearly all rows are malformed, and which files are empty.
    """

    def __init__(self, name: str, max_bad_rows: int = 0, table: InputFacts | None = None) -> None:
        self.name, self.table = name, table
        self.max_bad_rows = max_bad_rows
        self.rows = 0
        self.kept = 0
        self.dropped = Reasons()
        self.notes: list[str] = []
        self.read: list[str] = []  # the notes on how it was read
        self._bad = Reasons()
        self._first: dict[str, str] = {}

    def drop(self, reason: str, place: str, count: int = 1) -> None:
        """Count an ordinary row that is not used."""
        self.dropped.add(reason, place, count)

    def drop_many(self, reason: str, count: int, places: Iterable[str]) -> None:
        """Count ordinary rows that are not used; ``places`` are those of the first of them."""
        if not count:
            return
        dropped = self.dropped.setdefault(reason, Dropped())
        dropped.count += count
        dropped.examples.extend(islice(places, EXAMPLES - len(dropped.examples)))

    def bad(self, row: BadRow, place: str) -> None:
        """Count a malformed row, or an ordinary one among them."""
        if row.ordinary:
            self.drop(row.reason, place)
            return
        self._first.setdefault(row.reason, f"{place}: {row.message}")
        self._bad.add(row.reason, place)

    def say_read(self, *lines: str) -> None:
        """Note how the input was read: the format that was recognised, which column cites."""
        self.notes[len(self.read) : len(self.read)] = lines
        self.read.extend(lines)

    @property
    def n_bad(self) -> int:
        """Malformed rows so far."""
        return sum(dropped.count for dropped in self._bad.values())

    def check(self) -> None:
        """Refuse when there were more malformed rows than allowed; note the files without a row.

        Raises:
            UserError: the first row of each kind, how many there are, and how to skip them.
        """
        if self.n_bad <= self.max_bad_rows:
            self._note_empty_files()
            return
        lines = []
        for reason, dropped in self._bad.items():
            are = "is" if dropped.count == 1 else "are"
            lines.append(
                f"{self._first[reason]} {dropped.count:,} of {self.rows:,} rows {are} like this."
            )
        if self.rows >= FEW and self.n_bad >= NEARLY_ALL * self.rows:
            lines.append(self._other_columns())
            raise UserError("\n".join(lines))
        them = "it" if self.n_bad == 1 else "them"
        lines.append(
            f"Correct {them}, or skip {them} with --max-bad-rows {self.n_bad} "
            f"(in fit --data.max_bad_rows {self.n_bad})."
        )
        raise UserError(" ".join(lines) if len(lines) == 2 else "\n".join(lines))

    def _note_empty_files(self) -> None:
        files = self.table.empty_files if self.table is not None else []
        if not files:
            return
        more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
        are = "is empty: it has no row" if len(files) == 1 else "are empty: they have no row"
        self.notes.append(f"{', '.join(map(str, files[:3]))}{more} {are}.")

    def _other_columns(self) -> str:
        """Advice where nearly all rows are malformed, so that the file itself is the wrong one."""
        columns = self.table.columns if self.table is not None else []
        names = ", ".join(f"`{column}`" for column in columns)[:300]
        expected = EXPECTED.get(self.name)
        return (
            f"Nearly all rows of {self.name} are like this, so it is the file that does not fit. "
            + (f"Its first row has {names}. " if names else "")
            + (f"Expected are {expected}. " if expected else "")
            + "Rename the columns or convert the values, or name the file that you meant."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "malformed": self._bad.as_dict(),
            "dropped": self.dropped.as_dict(),
            "read": self.read,
            "notes": self.notes,
        }


def read_each(
    rows: Iterable[tuple[int, Any]], read: Callable[[Any], T]
) -> Iterator[tuple[int, T | BadRow]]:
    """Every row's place, and what ``read`` returns for the row or the `BadRow` that it raises."""
    for place, row in rows:
        try:
            yield place, row if isinstance(row, BadRow) else read(row)
        except BadRow as bad:
            yield place, bad


def checked_rows(
    rows: Iterable[tuple[int, T | BadRow]],
    where: Callable[[int], str],
    audit: Audit,
    stage: Stage,
    every: int = 4096,
) -> Iterator[tuple[int, T]]:
    """The rows that can be read, with their places; all others are counted.

    ``where`` shows a place in messages; ``stage`` gets the number of rows, ``every`` so many.

    Raises:
        UserError: at the end, if more rows are malformed than allowed.
    """
    for place, row in rows:
        audit.rows += 1
        if audit.rows % every == 0:
            stage.reach(audit.rows)
        if isinstance(row, BadRow):
            audit.bad(row, where(place))
        else:
            yield place, row
    stage.reach(audit.rows)
    audit.check()


def list_reasons(reasons: Mapping[str, Any], places: bool = False) -> str:
    """Reasons with their counts, such as ``3: empty; 1: a paper citing itself``.

    A reason's value is a `Dropped` or its plain values; ``places`` also names the first place.
    """
    parts = []
    for reason, dropped in reasons.items():
        values = dropped.as_dict() if isinstance(dropped, Dropped) else dropped
        first = values["examples"][:1] if places else []
        parts.append(
            f"{values['count']:,}: {reason}" + "".join(f", the first at {p}" for p in first)
        )
    return "; ".join(parts)


def usable_rows(account: Mapping[str, Any], unit: str) -> str:
    """How many rows of an `Audit.as_dict` can be used, and why others cannot, as a sentence."""
    why = in_brackets(list_reasons({**account["malformed"], **account["dropped"]}, places=True))
    return f"Of {account['rows']:,} {unit} {account['kept']:,} can be used{why}."


def in_brackets(text: str) -> str:
    """`` (text)``, or nothing for an empty text."""
    return f" ({text})" if text else ""


def count_and_examples(names: Iterable[str]) -> dict[str, Any]:
    """The number of names and the first of them in order, for ``report.json``."""
    ordered = sorted(names)
    return {"count": len(ordered), "examples": ordered[:EXAMPLES]}
