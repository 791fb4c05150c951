"""Citing sentences of a full text: which sentence of a paragraph cites which works.

Citation mentions are located by their offsets, never by their text, and each is replaced by
`MENTION_MASK`: an author and a year reveal the cited paper. Adjacent mentions become one. A mention
after a full stop, as raised numbers are written, belongs to the sentence before it.

Sentences are split by ``syntok``, a rule-based splitter (``docs/data.md`` compares it with others).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sciembed_train.corpus.fulltext.fulltext_records import Fulltext, Paragraph, body_of
from sciembed_train.corpus.fulltext.markup import without_markup, without_unarxive_markup
from sciembed_train.errors import UserError

MENTION_MASK = "[CIT]"
# Stand for the mentions of a paragraph, one each in order: private characters, which no text uses.
_FIRST, _LAST = 0xF0000, 0xFFFFD
_PLACEHOLDER = "[\U000f0000-\U000ffffd]"
_PLACEHOLDERS = re.compile(_PLACEHOLDER)
_RUN = re.compile(f"{_PLACEHOLDER}(?:[\\s,;]*{_PLACEHOLDER})*")
# Brackets around nothing but mentions: an arXiv paper's own, around its markup.
_BRACKETED = re.compile(f"\\[\\s*({_PLACEHOLDER}+)\\s*\\]|\\(\\s*({_PLACEHOLDER}+)\\s*\\)")
_ABBREVIATED = r"(?<!\bal)(?<!\bcf)(?<!\b[A-Z])(?<!\bRef)(?<!\bRefs)(?<!\bFig)(?<!\bEq)(?<!\bvs)"
_RAISED = re.compile(f"{_ABBREVIATED}([.!?]) ?({_PLACEHOLDER}+)(?= +[\"'(\\[]*[A-Z0-9]|$)")
# Stands for a mention while sentences are split: a word of small letters neither begins a sentence
# nor ends one. The splitter makes sentences of their own of bracketed mentions.
_WORD = "qcitationq"


@dataclass(frozen=True)
class CitingSentence:
    """A sentence that cites something, its mentions replaced by `MENTION_MASK`; its neighbours.

    ``references`` are the bibliography entries it cites, each once, in order; None for a mention
    that names none.
    """

    text: str
    references: tuple[str | None, ...]
    before: str
    after: str


def citing_sentences(record: Fulltext) -> Iterator[CitingSentence]:
    """The sentences of a full text's body that cite something, in order."""
    for paragraph in record.body:
        yield from _of_paragraph(paragraph, record.shape == "unarxive")


def _of_paragraph(paragraph: Paragraph, arxiv: bool) -> Iterator[CitingSentence]:
    text, references = _with_placeholders(paragraph)
    if not references:
        return
    clean = without_unarxive_markup if arxiv else without_markup
    text = " ".join(clean(text, paragraph.formulas).split())
    sentences = split_sentences(_tidy(text))
    masked = [_RUN.sub(MENTION_MASK, sentence) for sentence in sentences]
    for i, sentence in enumerate(sentences):
        cited = [
            references[ord(placeholder) - _FIRST] for placeholder in _PLACEHOLDERS.findall(sentence)
        ]
        if cited:
            before = masked[i - 1] if i else ""
            after = masked[i + 1] if i + 1 < len(masked) else ""
            yield CitingSentence(masked[i], tuple(dict.fromkeys(cited)), before, after)


def _with_placeholders(paragraph: Paragraph) -> tuple[str, list[str | None]]:
    """The text with one private character for each mention, and what each mention cites."""
    text = paragraph.text
    parts: list[str] = []
    references: list[str | None] = []
    at = 0
    for start, end, reference in sorted(_spans(paragraph.cite_spans, len(text))):
        if start < at or len(references) > _LAST - _FIRST:  # it overlaps the one before
            continue
        parts += [_PLACEHOLDERS.sub("", text[at:start]), chr(_FIRST + len(references))]
        references.append(reference or None)
        at = end
    parts.append(_PLACEHOLDERS.sub("", text[at:]))
    return "".join(parts), references


def _spans(spans: Sequence[Mapping[str, Any]], length: int) -> Iterator[tuple[int, int, str]]:
    for span in spans:
        if not isinstance(span, Mapping):
            continue
        start, end, reference = span.get("start"), span.get("end"), span.get("ref_id")
        if type(start) is int and type(end) is int and 0 <= start < end <= length:
            yield start, end, reference if isinstance(reference, str) else ""


def _tidy(text: str) -> str:
    """Adjacent mentions as one run of characters, before the full stop of their sentence."""
    text = _RUN.sub(lambda run: "".join(_PLACEHOLDERS.findall(run[0])), text)
    text = _BRACKETED.sub(lambda run: run[1] or run[2], text)
    return _RAISED.sub(r" \2\1", text)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text of single spaces; joined by a space they are the text.

    Raises:
        UserError: ``syntok`` is not installed.
    """
    try:
        from syntok import segmenter
    except ImportError as error:
        raise UserError(
            "Splitting a text into sentences needs the package syntok, which is not installed: "
            "pip install 'sciembed_train[prepare]'."
        ) from error
    text = text.replace(_WORD, "")
    placeholders = iter(_PLACEHOLDERS.findall(text))
    view = _PLACEHOLDERS.sub(_WORD, text)
    starts = [sentence[0].offset for paragraph in segmenter.process(view) for sentence in paragraph]
    pieces = [view[a:b].strip() for a, b in pairwise([*starts, len(view)])]
    joined: list[str] = []
    for piece in filter(None, pieces):
        # What begins with a small letter or a closing sign goes on with the sentence before.
        if joined and (piece[0].islower() or piece[0] in ".,;:)]"):
            joined[-1] += " " + piece
        else:
            joined.append(piece)
    return [re.sub(_WORD, lambda _: next(placeholders), sentence) for sentence in joined]


def candidate_ids(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """The ids by which a papers file may know each bibliography entry of a record.

    S2ORC's link (a paper of S2ORC) first, then DOI, arXiv, PubMed and OpenAlex ids as they stand;
    of an id that is an address, also its last part.
    """
    entries = body_of(row).get("bib_entries")
    if not isinstance(entries, Mapping):
        return {}
    return {
        str(name): list(dict.fromkeys(_ids(entry)))
        for name, entry in entries.items()
        if isinstance(entry, Mapping)
    }


def _ids(entry: Mapping[str, Any]) -> Iterator[str]:
    values: list[Any] = [entry.get("link"), entry.get("links")]
    for name in ("ids", "other_ids"):
        ids = entry.get(name)
        if isinstance(ids, Mapping):
            for entry_id in ids.values():
                values += entry_id if isinstance(entry_id, list | tuple) else [entry_id]
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            continue
        yield value.strip()
        if "://" in value:
            yield value.strip().rstrip("/").rpartition("/")[2]
