"""Full texts of every supported kind of record, as paragraphs and as one running text.

The kind of a record shows in its fields:

- ``text``, and perhaps ``title`` and ``abstract``: a plain document;
- ``title`` or ``abstract`` alone: a row of a papers file, a short document;
- ``abstract`` and ``body_text`` as lists of paragraphs: S2ORC of 2020 and 2021;
- ``pdf_parse``, ``grobid_parse`` or ``latex_parse`` that hold them: S2ORC of 2019 and doc2json;
- ``body_text`` as a list and ``abstract`` as one paragraph: unarXive.

The title and the abstract stand at the head of a document's text, the paragraphs follow. Headings,
captions, references and what S2ORC calls back matter (acknowledgements, funding) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.fulltext.markup import (
    without_markup,
    without_tex,
    without_unarxive_markup,
)
from sciembed_train.corpus.validation import spell, wrong_type

Shape = Literal["plain", "s2orc", "unarxive"]
PARSES = ("latex_parse", "pdf_parse", "grobid_parse")
# Keys that distinguish one record in a JSON file from an object of records by id.
FIELDS = (*PARSES, "metadata", "header", "abstract", "body_text", "bib_entries", "ref_entries")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph as the parser gave it: the heading of its section, and its text with markup.

    ``cite_spans`` have ``start``, ``end``, ``text`` and ``ref_id``; ``formulas`` are LaTeX by id.
    """

    section: str
    text: str
    cite_spans: Sequence[Mapping[str, Any]] = ()
    formulas: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fulltext:
    """One full text: title (perhaps empty), paragraphs of the abstract (``head``) and of the body.

    ``paper_id`` is unchecked; None if there is none.
    """

    shape: Shape
    paper_id: Any
    title: str
    head: Sequence[Paragraph]
    body: Sequence[Paragraph]

    def paragraphs(self) -> Iterator[Paragraph]:
        """The abstract's paragraphs, then the body's."""
        yield from self.head
        yield from self.body

    def parts(self) -> Iterator[str]:
        """The parts of the running text: title, abstract, paragraphs; without markup."""
        arxiv = self.shape == "unarxive"
        yield without_tex(self.title) if arxiv else self.title
        for paragraph in self.head:
            text = self._clean(paragraph)
            yield without_tex(text) if arxiv else text
        for paragraph in self.body:
            yield self._clean(paragraph)

    def _clean(self, paragraph: Paragraph) -> str:
        if self.shape == "plain":
            return paragraph.text
        if self.shape == "unarxive":
            return without_unarxive_markup(paragraph.text, paragraph.formulas)
        return without_markup(paragraph.text, paragraph.formulas)


def body_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a record that holds its body and bibliography: a parse, or the record itself."""
    parses = [row[name] for name in PARSES if isinstance(row.get(name), Mapping)]
    return next((p for p in parses if p.get("body_text")), parses[0] if parses else row)


def read_fulltext(row: Mapping[str, Any], stem: str = "") -> Fulltext:
    """Read one record of any shape; ``stem`` is its file's name, whose id doc2json truncates.

    Raises:
        BadRow: a field has a wrong type, or there is no text.
    """
    paper_id = row.get("paper_id")
    parse = body_of(row)
    if parse is not row:
        # doc2json uses a file's name up to its first dot as the id.
        if isinstance(paper_id, str) and "pdf_parse" in row and stem.startswith(f"{paper_id}."):
            paper_id = stem
        return _s2orc(row, parse, paper_id)
    if row.get("body_text") is not None:  # a table has every column in every row
        if isinstance(row.get("abstract"), Mapping):
            return _unarxive(row, paper_id)
        return _s2orc(row, row, paper_id)
    known = [name for name in ("text", "title", "abstract") if name in row]
    if not known:
        fields = ", ".join(map(str, row))[:200] or "none"
        raise BadRow(
            "no field of a full text",
            "there is no `text`, no `title` or `abstract`, and no `body_text` or parse of S2ORC or "
            f"unarXive; the fields are {fields}.",
        )
    body = _plain(row, "text")
    return Fulltext("plain", paper_id, _text(row, "title"), _plain(row, "abstract"), body)


def _s2orc(row: Mapping[str, Any], parse: Mapping[str, Any], paper_id: Any) -> Fulltext:
    metadata = _object(row, "metadata")
    title = _text(row, "title") or _text(metadata, "title")
    # The publisher's abstract is cleaner than the one that was parsed.
    texts = (part["abstract"] for part in (metadata, row) if isinstance(part.get("abstract"), str))
    abstract = next(texts, "")
    head = [Paragraph("Abstract", abstract)] if abstract.strip() else _paragraphs(parse, "abstract")
    return Fulltext("s2orc", paper_id, title, head, _paragraphs(parse, "body_text"))


def _unarxive(row: Mapping[str, Any], paper_id: Any) -> Fulltext:
    entries = _object(row, "ref_entries")
    formulas = {
        name: entry["latex"]
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("latex"), str)
    }
    head = _paragraphs({"abstract": [row["abstract"]]}, "abstract", formulas)
    title = _text(_object(row, "metadata"), "title") or _text(row, "title")
    return Fulltext("unarxive", paper_id, title, head, _paragraphs(row, "body_text", formulas))


def _paragraphs(
    parse: Mapping[str, Any], name: str, formulas: Mapping[str, str] | None = None
) -> list[Paragraph]:
    """The paragraphs of a list of ``{"text": ..., "section": ...}``."""
    items = parse.get(name)
    if items is None or items == "":
        return []
    if not isinstance(items, list | tuple):
        raise wrong_type(name, items, "a list of paragraphs")
    paragraphs = []
    for i, item in enumerate(items):
        if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
            what = item.get("text") if isinstance(item, Mapping) else item
            raise BadRow(
                f"a paragraph of {name} has no text",
                f"paragraph {i + 1} of `{name}` has {spell(what)} for `text`; expected text.",
            )
        section, cites = item.get("section"), item.get("cite_spans")
        paragraphs.append(
            Paragraph(
                section if isinstance(section, str) else "",
                item["text"],
                cites if isinstance(cites, list | tuple) else (),
                _equations(item) if formulas is None else formulas,
            )
        )
    return paragraphs


def _equations(item: Mapping[str, Any]) -> dict[str, str]:
    """The formulas of a paragraph of S2ORC by the word that stands for each."""
    spans = item.get("eq_spans")
    return {
        span["text"]: span["latex"]
        for span in (spans if isinstance(spans, list | tuple) else ())
        if isinstance(span, Mapping)
        and isinstance(span.get("text"), str)
        and isinstance(span.get("latex"), str)
    }


def _plain(row: Mapping[str, Any], name: str) -> list[Paragraph]:
    """A field that is one text, or a list of sentences or paragraphs."""
    value = row.get(name)
    if isinstance(value, list | tuple):
        for i, part in enumerate(value):
            if not isinstance(part, str):
                raise BadRow(
                    f"{name} has a wrong type",
                    f"part {i + 1} of `{name}` is {spell(part)}; expected text.",
                )
        return [Paragraph("", part) for part in value]
    text = _text(row, name)
    return [Paragraph("", text)] if text else []


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN, which tables write for an empty field
        return ""
    raise wrong_type(name, value, "text or null")


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise wrong_type(name, value, "an object or null")
