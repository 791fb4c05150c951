"""Articles of PubMed, of its XML and of its text format (MEDLINE)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import list_of, with_prefix
from sciembed_train.corpus.validation import missing_field

_DOI = re.compile(r"(\S+) \[doi\]")


class PubMed(RecordFormat):
    """Articles by PMID: rows of `PubmedXml`, and tags of the text format, ``TI`` and ``AB``.

    Source: https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html
    """

    name = "PubMed articles"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By ``PMID`` and the name of the title, or the place that the reader of text gives."""
        return "PMID" in row and ("ArticleTitle" in row or "PLACE" in row)

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """An article; its PMID is its id."""
        if row.get("PMID") is None:
            raise missing_field("PMID", row)
        if "ArticleTitle" not in row:
            return _of_text(row)
        return PaperRecord(
            row["PMID"],
            row["ArticleTitle"],
            row.get("AbstractText"),
            year=row.get("Year"),
            other_ids=[*with_prefix("doi", row.get("DOI")), *with_prefix("pmc", row.get("PMC"))],
            references=list_of(row, "References"),
        )


def _of_text(row: Mapping[str, Any]) -> PaperRecord:
    """An article whose tags have one value each, or a list of them."""
    first_values = {
        name: next(iter(value), None) if isinstance(value, list) else value
        for name, value in row.items()
    }
    ids = [text for name in ("AID", "LID") for text in _values(row, name)]
    dois = dict.fromkeys(match[1] for text in ids if (match := _DOI.fullmatch(text)))
    return PaperRecord(
        first_values["PMID"],
        first_values.get("TI") or first_values.get("BTI") or first_values.get("TT"),
        first_values.get("AB"),
        year=first_values.get("DP"),
        other_ids=[*with_prefix("doi", list(dois)), *with_prefix("pmc", first_values.get("PMC"))],
    )


def _values(row: Mapping[str, Any], name: str) -> list[str]:
    value = row.get(name)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
