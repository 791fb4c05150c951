"""Works of Crossref, of its API and of its yearly dump."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import list_of, names_of, object_of, objects_of
from sciembed_train.corpus.validation import missing_field

_BESIDE_DOI = ("reference-count", "is-referenced-by-count", "container-title", "issued", "indexed")
_DATES = ("issued", "published", "published-print", "published-online", "created")
_HEADING = re.compile(
    r"\s*<jats:(title|label)>\s*(?:abstract|summary)\s*[:.]?\s*</jats:\1>", re.IGNORECASE
)


class Crossref(RecordFormat):
    """Works: the id is the DOI, the title a list, and an abstract has JATS markup.

    Source: https://api.crossref.org/swagger-ui/index.html
    """

    name = "Crossref works"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By ``DOI`` and a field that only works have."""
        return "DOI" in row and any(name in row for name in _BESIDE_DOI)

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A work; a reference that has no DOI is left out."""
        if "DOI" not in row:
            raise missing_field("DOI", row)
        title = row.get("title")
        if isinstance(title, list | tuple):
            title = title[0] if title else None
        abstract = row.get("abstract")
        return PaperRecord(
            row["DOI"],
            title,
            _HEADING.sub("", abstract, count=1) if isinstance(abstract, str) else abstract,
            year=_year(row),
            references=[reference.get("DOI") for reference in objects_of(row, "reference")],
            fields_of_study=names_of(row.get("subject")),
        )


def _year(row: Mapping[str, Any]) -> Any:
    """The year of publication, ``[[year, month, day]]``; None where there is none."""
    for name in _DATES:
        parts = list_of(object_of(row, name), "date-parts")
        if parts and isinstance(parts[0], list | tuple) and parts[0] and parts[0][0]:
            return parts[0][0]
    return None
