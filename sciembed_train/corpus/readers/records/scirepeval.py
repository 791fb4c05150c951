"""Papers of SciRepEval's datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import with_prefix
from sciembed_train.corpus.readers.records.plain_papers import listed
from sciembed_train.corpus.validation import missing_field

_OF_A_TASK = ({"query", "candidates"}, {"query", "pos", "neg"})
# Beside `corpus_id` in training files; other tables with that column are rows of plain papers.
_TRAINING = {"labels", "labels_text", "descriptor", "sha", "n_citations"}


class SciRepEval(RecordFormat):
    """Papers with ``doc_id``, of its tests, or ``corpus_id``, of its training files.

    Source: https://github.com/allenai/scirepeval
    """

    name = "SciRepEval papers"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By both ids, or by what stands beside the one of training files."""
        if any(keys <= set(row) for keys in _OF_A_TASK):
            return True
        if "doc_id" in row and "corpus_id" in row:
            return True
        return "corpus_id" in row and "paper_id" not in row and bool(_TRAINING & set(row))

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; a search or a triplet is none."""
        if any(keys <= set(row) for keys in _OF_A_TASK):
            raise BadRow(
                "a record of a task",
                "this is a record of a task, a query with other papers, and no paper. Give the "
                "list of tasks as --tasks, or the papers alone.",
            )
        name = "doc_id" if row.get("doc_id") is not None else "corpus_id"
        if name not in row:
            raise missing_field("doc_id", row)
        return PaperRecord(
            row[name],
            row.get("title"),
            row.get("abstract"),
            year=row.get("year"),
            other_ids=[
                *(with_prefix("corpusid", row.get("corpus_id")) if name == "doc_id" else ()),
                *([row["sha"]] if row.get("sha") else ()),
            ],
            references=listed(row.get("references"), "references"),
            cited_by=listed(row.get("cited_by"), "cited_by"),
        )
