"""Papers in rows with a column for each field, by the names that such columns commonly have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.validation import missing_field

# Of each field the names that it is known by, in small letters without marks, the first one first.
NAMES: dict[str, tuple[str, ...]] = {
    "paper_id": (
        *("paperid", "id", "docid", "documentid", "articleid", "workid", "corpusid", "s2id"),
        *("s2corpusid", "s2paperid", "openalexid", "pid", "uid", "key", "citekey", "ut"),
        *("doi", "pmid", "pubmedid", "arxivid", "magid", "eid", "url"),
    ),
    "title": (
        *("title", "displayname", "papertitle", "articletitle", "documenttitle", "primarytitle"),
        *("name", "ti"),
    ),
    "abstract": (
        *("abstract", "abstracttext", "paperabstract", "abstractnote", "summary", "description"),
        *("ab",),
    ),
    "year": ("year", "publicationyear", "pubyear", "py", "date", "publicationdate", "published"),
    "references": (
        *("references", "referencedworks", "outcitations", "outboundcitations", "referenceids"),
        *("citedids", "citedpapers", "bibliography"),
    ),
    "cited_by": ("citedby", "incitations", "inboundcitations", "citingids"),
}
FIELDS = tuple(NAMES)
# Columns that name the paper too, where another one is its id.
_OTHER_IDS = {"doi": "doi", "pmid": "pmid", "pubmedid": "pmid", "arxivid": "arxiv"}
_OTHER_IDS |= {"corpusid": "corpusid", "s2corpusid": "corpusid", "magid": "mag"}
_LISTED = re.compile(r"[;|,\s]+")


def folded(name: str) -> str:
    """A column's name in small letters, without spaces and marks: ``Paper_ID`` is ``paperid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass
class PlainPapers(RecordFormat):
    """Rows with a column for each field.

    Args:
        columns: names of columns, by field (`FIELDS`), that go before the known names.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    name = "rows with a column for each field"
    _found: dict[tuple[str, ...], _Columns] = field(default_factory=dict)
    _id: str | None = None  # the column of the first row; all rows have their id there

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Always: it is what a row is taken for that no other format knows."""
        return True

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A row's paper; the columns of the id and the title must be there."""
        found = self.find(row)
        if found.paper_id is None or found.paper_id not in row:
            raise missing_field(self.columns.get("paper_id", self._id or "paper_id"), row)
        if found.title is None:
            raise missing_field(self.columns.get("title", "title"), row)
        self._id = found.paper_id
        return PaperRecord(
            row[found.paper_id],
            row[found.title],
            _value(row, found.abstract),
            year=_value(row, found.year),
            other_ids=[
                f"{prefix}:{row[name]}" for name, prefix in found.others if row[name] is not None
            ],
            references=listed(_value(row, found.references), found.references),
            cited_by=listed(_value(row, found.cited_by), found.cited_by),
        )

    def find(self, row: Mapping[str, Any]) -> _Columns:
        """The columns of a row's fields."""
        key = tuple(row)
        if key not in self._found:
            if len(self._found) > 1000:  # rows of JSON may each have other fields
                self._found.clear()
            self._found[key] = _Columns(key, self.columns, self._id)
        return self._found[key]


@dataclass(frozen=True)
class _Columns:
    """Which column of a row is which field; None where there is none."""

    names: Sequence[str]
    given: Mapping[str, str]
    id_before: str | None

    def _column(self, name: str) -> str | None:
        if name in self.given:
            return self.given[name] if self.given[name] in self.names else None
        # As the field is called here, else the first of the known names.
        if name in self.names:
            return name
        known = {
            folded(column): column for column in reversed(self.names) if isinstance(column, str)
        }
        return next((known[other] for other in NAMES[name] if other in known), None)

    @cached_property
    def paper_id(self) -> str | None:
        return self.id_before or self._column("paper_id")

    @cached_property
    def title(self) -> str | None:
        return self._column("title")

    @cached_property
    def abstract(self) -> str | None:
        return self._column("abstract")

    @cached_property
    def year(self) -> str | None:
        return self._column("year")

    @cached_property
    def references(self) -> str | None:
        return self._column("references")

    @cached_property
    def cited_by(self) -> str | None:
        return self._column("cited_by")

    @cached_property
    def others(self) -> list[tuple[str, str]]:
        """Columns with other ids of the paper, and the prefix of each."""
        return [
            (name, _OTHER_IDS[folded(name)])
            for name in self.names
            if isinstance(name, str) and name != self.paper_id and folded(name) in _OTHER_IDS
        ]


def _value(row: Mapping[str, Any], column: str | None) -> Any:
    return None if column is None else row.get(column)


def listed(value: Any, name: str | None) -> Sequence[Any]:
    """The ids of a field: a list of them or of objects, or a text with marks between them.

    Raises:
        BadRow: it is neither.
    """
    if value is None or value != value or value == "":
        return ()
    if isinstance(value, str):
        return [part for part in _LISTED.split(value.strip("[]").replace("'", "")) if part]
    if isinstance(value, list | tuple):
        return [id_of(part) if isinstance(part, Mapping) else part for part in value]
    raise BadRow(
        f"{name} has a wrong type",
        f"`{name}` is not a list of ids of papers, and no text with ids between commas or "
        "semicolons.",
    )


def id_of(row: Mapping[str, Any]) -> Any:
    """The id in an object that stands for a paper; None if it has none."""
    known = {folded(str(key)): key for key in row}
    return next(
        (row[known[name]] for name in NAMES["paper_id"] if name in known and row[known[name]]), None
    )
