"""Papers in rows with a column for each field, by the names that such columns commonly have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import names_of
from sciembed_train.corpus.validation import missing_field

# The known names of each field, in lower case without punctuation, the preferred one first.
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
    "fields_of_study": (
        *("fieldsofstudy", "fieldofstudy", "s2fieldsofstudy", "subjects", "subject", "discipline"),
        *("categories", "category"),
    ),
    "references": (
        *("references", "referencedworks", "outcitations", "outboundcitations", "referenceids"),
        *("citedids", "citedpapers", "bibliography"),
    ),
    "cited_by": ("citedby", "incitations", "inboundcitations", "citingids"),
}
FIELDS = tuple(NAMES)
# Columns with other ids of the paper, where another column is its id.
_OTHER_IDS = {"doi": "doi", "pmid": "pmid", "pubmedid": "pmid", "arxivid": "arxiv"}
_OTHER_IDS |= {"corpusid": "corpusid", "s2corpusid": "corpusid", "magid": "mag"}
_LISTED = re.compile(r"[;|,\s]+")


def folded(name: str) -> str:
    """A column's name in lower case, without spaces or punctuation: ``Paper_ID`` is ``paperid``."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass
class PlainPapers(RecordFormat):
    """Rows with a column for each field.

    Args:
        columns: names of columns, by field (`FIELDS`), that take precedence over the known names.
        needed: fields that each row must have, besides the id.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    needed: Sequence[str] = ("title",)
    name = "rows with a column for each field"
    _found: dict[tuple[str, ...], Columns] = field(default_factory=dict)
    _id: str | None = None  # the column of the first row; all rows have their id there

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Always: it is the fallback for rows that no other format recognises."""
        return True

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A row's paper; the columns of the id and what is `needed` must be there."""
        columns = self.find(row)
        if columns.paper_id is None or columns.paper_id not in row:
            raise missing_field(self.columns.get("paper_id", self._id or "paper_id"), row)
        if columns.title is None and "title" in self.needed:
            raise missing_field(self.columns.get("title", "title"), row)
        self._id = columns.paper_id
        return PaperRecord(
            row[columns.paper_id],
            _value(row, columns.title),
            _value(row, columns.abstract),
            year=_value(row, columns.year),
            other_ids=[
                f"{prefix}:{row[name]}" for name, prefix in columns.others if row[name] is not None
            ],
            references=listed(_value(row, columns.references), columns.references),
            cited_by=listed(_value(row, columns.cited_by), columns.cited_by),
            fields_of_study=names_of(_value(row, columns.fields_of_study)),
        )

    def names_references(self, row: Mapping[str, Any]) -> bool:
        """Whether there is a column of references or of citing papers."""
        columns = self.find(row)
        return columns.references is not None or columns.cited_by is not None

    def find(self, row: Mapping[str, Any]) -> Columns:
        """The columns of a row's fields."""
        key = tuple(row)
        if key not in self._found:
            if len(self._found) > 1000:  # rows of JSON may each have other fields
                self._found.clear()
            self._found[key] = Columns.of(key, self.columns, self._id)
        return self._found[key]


@dataclass(frozen=True)
class Columns:
    """Which column of a row is which field; None where there is none.

    ``others`` are columns with other ids of the paper, and the prefix of each.
    """

    paper_id: str | None
    title: str | None
    abstract: str | None
    year: str | None
    references: str | None
    cited_by: str | None
    fields_of_study: str | None
    others: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, names: Sequence[Any], given: Mapping[str, str], id_before: str | None) -> Columns:
        """The column of each field among ``names``: a given one, the field's name, or a known name.

        ``id_before`` is the column in which earlier rows have their id.
        """
        known = {folded(name): name for name in reversed(names) if isinstance(name, str)}

        def column(field: str) -> str | None:
            if field in given:
                return given[field] if given[field] in names else None
            if field in names:
                return field
            return next(
                (known[known_name] for known_name in NAMES[field] if known_name in known), None
            )

        column_of_field = {field: column(field) for field in FIELDS}
        column_of_field["paper_id"] = id_before or column_of_field["paper_id"]
        others = [
            (name, _OTHER_IDS[folded(name)])
            for name in names
            if isinstance(name, str)
            and name != column_of_field["paper_id"]
            and folded(name) in _OTHER_IDS
        ]
        return cls(**column_of_field, others=others)


def _value(row: Mapping[str, Any], column: str | None) -> Any:
    return None if column is None else row.get(column)


def listed(value: Any, name: str | None) -> Sequence[Any]:
    """The ids of a field: a list of them or of objects, or a text with separators between them.

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
