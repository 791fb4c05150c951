"""Papers of Semantic Scholar: of its Graph API, and of its bulk datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import names_of, object_of, with_prefix
from sciembed_train.corpus.readers.records.plain_papers import listed
from sciembed_train.corpus.validation import missing_field, spell

# The prefixes of the ids in `externalIds` that are used here.
_PREFIXES = {"doi": "doi", "arxiv": "arxiv", "pubmed": "pmid", "corpusid": "corpusid", "mag": "mag"}
_BULK = ("externalids", "openaccessinfo", "content", "body", "citationcount")
_NESTED = ("citedPaper", "citingPaper")  # of the lists of references and citations of one paper
_PAGE = "semanticscholar.org/paper/"


class SemanticScholar(RecordFormat):
    """Papers with ``paperId`` (Graph API) or ``corpusid`` (datasets papers, abstracts, s2orc).

    The abstracts are a dataset of their own: its rows complete the papers of another file.

    Source: https://api.semanticscholar.org/api-docs
    """

    name = "Semantic Scholar papers"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By the spelling of the id's name; for the bulk datasets also by other fields."""
        if any(isinstance(row.get(name), Mapping) for name in _NESTED):
            return True
        return "paperId" in row or ("corpusid" in row and any(name in row for name in _BULK))

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A paper; one of a list of references is the paper that is listed."""
        for name in _NESTED:
            if isinstance(row.get(name), Mapping):
                row = row[name]
        if row.get("paperId") is None and row.get("corpusid") is not None:
            return _of_dataset(row)
        if "paperId" not in row:
            raise missing_field("paperId", row)
        return PaperRecord(
            row["paperId"],
            row.get("title"),
            row.get("abstract"),
            year=row.get("year") or row.get("publicationDate"),
            other_ids=[
                *with_prefix("corpusid", row.get("corpusId")),
                *_external(row, "externalIds"),
            ],
            references=listed(row.get("references"), "references"),
            cited_by=listed(row.get("citations"), "citations"),
            fields_of_study=names_of(row.get("fieldsOfStudy") or row.get("s2FieldsOfStudy")),
        )


def _of_dataset(row: Mapping[str, Any]) -> PaperRecord:
    """A row of the datasets papers, abstracts or s2orc."""
    texts = _Texts(row)
    info = object_of(row, "openaccessinfo")
    page = row.get("url")
    page_ids = [page] if isinstance(page, str) and _PAGE in page else []
    abstract = row.get("abstract")
    return PaperRecord(
        row["corpusid"],
        row["title"] if row.get("title") else texts.cut("title"),
        texts.cut("abstract") if abstract is None else abstract,
        year=row.get("year") or row.get("publicationdate"),
        other_ids=[*_external(row, "externalids"), *_external(info, "externalids"), *page_ids],
        references=texts.references(),
        fields_of_study=names_of(row.get("s2fieldsofstudy")),
        completes="title" not in row and not texts.parts,
    )


def _external(row: Mapping[str, Any], name: str) -> list[str]:
    """The ids that other services have for a paper."""
    ids = object_of(row, name)
    return [
        text
        for kind, value in ids.items()
        if kind.lower() in _PREFIXES
        for text in with_prefix(_PREFIXES[kind.lower()], value)
    ]


class _Texts:
    """The texts of a row of s2orc, and the spans that are marked in them.

    One is in ``content`` or, since 2025, there are two: ``body`` and ``bibliography``. A mark is
    ``{"start": .., "end": .., "attributes": {..}}``; a list of them may be spelled as JSON in text.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.parts = [
            part for name in ("content", "body", "bibliography") if (part := row.get(name))
        ]
        for part in self.parts:
            if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
                raise BadRow(
                    "the full text has a wrong type",
                    f"the full text is {spell(part)}; expected an object with `text` and "
                    "`annotations`.",
                )

    def cut(self, kind: str) -> str | None:
        """What is marked as the title or the abstract; None if nothing is."""
        pieces = []
        for part, mark in self._marks(kind):
            try:
                pieces.append(part["text"][int(mark["start"]) : int(mark["end"])])
            except (KeyError, TypeError, ValueError):
                raise _no_marks(kind, mark) from None
        return " ".join(piece.strip() for piece in pieces) if pieces else None

    def references(self) -> list[Any]:
        """The papers that bibliography entries and citations in the text were matched to."""
        papers: dict[Any, None] = {}
        for kind in ("bibentry", "bib_entry", "bibref", "bib_ref"):
            for _, mark in self._marks(kind):
                attributes = mark.get("attributes")
                paper = attributes.get("matched_paper_id") if isinstance(attributes, Mapping) else 0
                if isinstance(paper, str | int) and paper:
                    papers.setdefault(str(paper))
        return list(papers)

    def _marks(self, kind: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        for part in self.parts:
            marks = object_of(part, "annotations").get(kind)
            if isinstance(marks, str):
                try:
                    marks = json.loads(marks)
                except ValueError:
                    raise _no_marks(kind, marks) from None
            if marks is not None and not isinstance(marks, list | tuple):
                raise _no_marks(kind, marks)
            for mark in marks or ():
                if not isinstance(mark, Mapping):
                    raise _no_marks(kind, mark)
                yield part, mark


def _no_marks(kind: str, value: Any) -> BadRow:
    return BadRow(
        "annotations have a wrong type",
        f"`annotations.{kind}` has {spell(value)}; expected a list of objects with `start` and "
        "`end`, or such a list as JSON.",
    )
