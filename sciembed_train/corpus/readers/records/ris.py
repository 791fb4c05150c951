"""Records of RIS as papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import with_prefix
from sciembed_train.corpus.validation import spell


class Ris(RecordFormat):
    """Records of tags: rows of `TaggedText`.

    The id is ``ID``, ``AN`` (accession number), ``DO``, ``UR`` or, as many programs write none of
    them, the file's name and the record's line.
    """

    name = "RIS records"
    has_references = False

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By the tag with which a record begins, beside the place that its reader gives."""
        return "TY" in row and "PLACE" in row

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper."""
        paper_id = _first(row, "ID", "AN", "DO", "UR", "PLACE")
        if paper_id is None:
            raise BadRow("there is no ID", "there is none of the tags ID, AN, DO and UR.")
        return PaperRecord(
            paper_id,
            _first(row, "TI", "T1", "BT", "CT"),
            _first(row, "AB", "N2"),
            year=_first(row, "PY", "Y1", "DA"),
            other_ids=with_prefix("doi", _first(row, "DO")),
        )


def _first(row: Mapping[str, Any], *tags: str) -> str | None:
    """The first value of the first of the tags that has one."""
    for tag in tags:
        values = row.get(tag) or []
        if not isinstance(values, list):
            raise BadRow(
                f"{tag} has a wrong type", f"`{tag}` is {spell(values)}; expected a list of values."
            )
        text = next((value for value in values if isinstance(value, str) and value), None)
        if text is not None:
            return text
    return None
