"""Entries of BibTeX as papers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import with_prefix
from sciembed_train.corpus.validation import missing_field

# What keeps its brackets, as TeX needs them: formulas, commands, accents, indices; then what does
# not: brackets that only protect capitals.
_BRACED = re.compile(
    r"\\[$&%#_~]"
    r"|\$[^$]*\$"
    r"|\{(?P<accent>\\[^\s{}]\{\\?[A-Za-z]\})\}"  # {\"{u}}, whose outer brackets say nothing
    r"|\\[A-Za-z]+\*?(?:\s*\{(?:[^{}]|\{[^{}]*\})*\})+"
    r"|\\[^A-Za-z\s]\s*\{[^{}]*\}"
    r"|\{\\(?:[^{}]|\{[^{}]*\})*\}"
    r"|[\^_]\{[^{}]*\}"
    r"|\{(?P<protected>[^{}]*)\}"
)
_NESTED = 8  # brackets in brackets; more are no title's
_TIE = re.compile(r"(?<!\\)~")


class Bibtex(RecordFormat):
    """Entries by their keys: rows of `BibtexFile`."""

    name = "BibTeX entries"
    has_references = False

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By the two names that no field of BibTeX has."""
        return "ENTRYTYPE" in row and "ID" in row

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; its title keeps its TeX without the brackets that protect capitals."""
        if "ID" not in row:
            raise missing_field("ID", row)
        archive = str(row.get("archiveprefix") or row.get("eprinttype") or "arxiv").lower()
        prefix = {"arxiv": "arxiv", "pubmed": "pmid", "pmid": "pmid"}.get(archive)
        return PaperRecord(
            row["ID"],
            unprotected(row.get("title") or row.get("booktitle")),
            unprotected(row.get("abstract")),
            year=row.get("year") or row.get("date"),
            other_ids=[
                *with_prefix("doi", row.get("doi")),
                *(with_prefix(prefix, row.get("eprint")) if prefix else ()),
                *with_prefix("pmid", row.get("pmid")),
            ],
        )


def unprotected(text: Any) -> Any:
    """A text without the brackets that only protect capitals: ``{DNA}`` is ``DNA``."""
    if not isinstance(text, str):
        return text
    text = _TIE.sub(" ", text)
    for _ in range(_NESTED):
        before, text = text, _BRACED.sub(_opened, text)
        if text == before:
            break
    return text


def _opened(match: re.Match[str]) -> str:
    inner = match["protected"] if match["accent"] is None else match["accent"]
    return match[0] if inner is None else inner
