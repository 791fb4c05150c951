"""unarXive's full texts as papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.fulltext.fulltext_records import read_fulltext
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import object_of, objects_of, with_prefix
from sciembed_train.corpus.readers.records.s2orc import head_of
from sciembed_train.corpus.validation import missing_field

# Ids of an entry of the bibliography; first the kind that the papers of this format have.
_ENTRY_IDS = {"arxiv_id": "arxiv", "doi": "doi", "open_alex_id": "openalex", "pubmed_id": "pmid"}


class UnarXive(RecordFormat):
    """Papers by arXiv id, with the works of their bibliography that were recognised.

    Source: https://github.com/IllDepence/unarXive
    """

    name = "unarXive records"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By a body of paragraphs, and an abstract that is one."""
        return "body_text" in row and isinstance(row.get("abstract"), Mapping)

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; its title and abstract lose their TeX as those of full texts do."""
        if "paper_id" not in row:
            raise missing_field("paper_id", row)
        fulltext = read_fulltext(row)
        metadata = object_of(row, "metadata")
        first = next(objects_of(metadata, "versions"), {})
        return PaperRecord(
            row["paper_id"],
            " ".join(next(fulltext.parts()).split()),
            head_of(fulltext),
            year=first.get("created") or metadata.get("update_date"),
            other_ids=with_prefix("doi", metadata.get("doi")),
            references=[
                reference
                for entry in object_of(row, "bib_entries").values()
                for reference in _id_of(entry)
            ],
        )


def _id_of(entry: Any) -> list[str]:
    """One id of an entry, if it has any."""
    ids = entry.get("ids") if isinstance(entry, Mapping) else None
    if not isinstance(ids, Mapping):
        return []
    known = (
        text for name, prefix in _ENTRY_IDS.items() for text in with_prefix(prefix, ids.get(name))
    )
    return [text.partition(":")[2] if ":http" in text else text for text in known][:1]
