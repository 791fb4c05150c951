"""arXiv's metadata, as its snapshot on Kaggle has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import objects_of, one_line, with_prefix
from sciembed_train.corpus.validation import missing_field


class Arxiv(RecordFormat):
    """Papers by arXiv id, with line breaks within titles and abstracts.

    Source: https://www.kaggle.com/datasets/Cornell-University/arxiv
    """

    name = "arXiv metadata"
    has_references = False

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By fields that no other format has beside ``id``."""
        return "id" in row and ("authors_parsed" in row or {"versions", "update_date"} <= set(row))

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; its year is that of its first version."""
        if "id" not in row:
            raise missing_field("id", row)
        first = next(objects_of(row, "versions"), {})
        doi, categories = row.get("doi"), row.get("categories")
        return PaperRecord(
            row["id"],
            one_line(row.get("title")),
            one_line(row.get("abstract")),
            year=first.get("created") or row.get("update_date"),
            # A paper may have several, with blanks between them.
            other_ids=with_prefix("doi", doi.split() if isinstance(doi, str) else doi),
            fields_of_study=categories.split() if isinstance(categories, str) else (),
        )
