"""S2ORC of every generation as papers: its metadata, and the head of its full texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from sciembed_train.corpus.fulltext.fulltext_records import (
    PARSES,
    Fulltext,
    body_of,
    read_fulltext,
)
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import list_of, names_of, object_of, with_prefix
from sciembed_train.corpus.validation import missing_field

# The prefix of each id, in a paper's metadata and in an entry of its bibliography.
_IDS = {"doi": "doi", "arxiv_id": "arxiv", "pubmed_id": "pmid", "mag_id": "mag"}
_ENTRY_IDS = {"DOI": "doi", "arXiv": "arxiv", "PMID": "pmid"}


class S2orc(RecordFormat):
    """Metadata (``outbound_citations``), and parses of full texts with a bibliography.

    The ids of S2ORC up to 2020 are those of Semantic Scholar's corpus.

    Source: https://github.com/allenai/s2orc
    """

    name = "S2ORC records"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By the lists of citations, a parse, or a body in paragraphs."""
        if "outbound_citations" in row or "inbound_citations" in row:
            return True
        if any(isinstance(row.get(name), Mapping) for name in PARSES):
            return True
        bodied = isinstance(row.get("body_text"), list) and "bib_entries" in row
        return bodied and not isinstance(row.get("abstract"), Mapping)

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; of a full text the title, the abstract, and the works that were recognised."""
        if "paper_id" not in row:
            raise missing_field("paper_id", row)
        parsed = "body_text" in row or any(name in row for name in PARSES)
        metadata = object_of(row, "metadata")
        title, abstract = row.get("title"), row.get("abstract")
        references: Sequence[Any] = list_of(row, "outbound_citations")
        if parsed:
            fulltext = read_fulltext(row)
            title, abstract = fulltext.title, head_of(fulltext)
            references = references or _references(object_of(body_of(row), "bib_entries"))
        return PaperRecord(
            row["paper_id"],
            title,
            abstract,
            year=row.get("year") or metadata.get("year"),
            other_ids=[
                text
                for part in (row, metadata)
                for name, prefix in _IDS.items()
                for text in with_prefix(prefix, part.get(name))
            ],
            references=references,
            cited_by=list_of(row, "inbound_citations"),
            fields_of_study=names_of(row.get("mag_field_of_study") or row.get("fieldsOfStudy")),
        )


def head_of(fulltext: Fulltext) -> str:
    """The abstract of a full text without markup, its paragraphs on one line."""
    paragraphs = islice(fulltext.parts(), 1, 1 + len(fulltext.head))
    return " ".join(" ".join(text.split()) for text in paragraphs)


def _references(entries: Mapping[str, Any]) -> list[str]:
    """One id of every entry that has any: that of the corpus, else the first of the others."""
    reference_ids = []
    for entry in entries.values():
        if not isinstance(entry, Mapping):
            continue
        link = entry.get("link") or entry.get("links")
        others = entry.get("other_ids")
        ids = with_prefix("doi", entry.get("doi"))
        if isinstance(others, Mapping):
            for name, prefix in _ENTRY_IDS.items():
                ids += with_prefix(prefix, others.get(name))
        if isinstance(link, str | int) and link:
            ids.insert(0, str(link))
        reference_ids += ids[:1]
    return reference_ids
