"""Citing sentences: those that users give, and those of full texts.

A context is a citing sentence with the papers it cites; it may name the citation mentions in its
text. `context_groups` writes what mining needs of contexts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import BadRow, Reasons, read_each
from sciembed_train.corpus.citations.citing_sentences import candidate_ids, citing_sentences
from sciembed_train.corpus.exclusions import Exclusions
from sciembed_train.corpus.fulltext.fulltext_records import read_fulltext
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import (
    is_unicode,
    missing_field,
    not_unicode,
    read_id,
    wrong_type,
)

NO_ENTRY = "a citation mark without a bibliography entry"
NO_ID = "a bibliography entry without an id"


@dataclass(frozen=True)
class Context:
    """A validated row of the contexts.

    Args:
        text: the citing sentence.
        cited_ids: the papers it cites, each once, in order.
        citing_id: the paper it stands in; empty if unknown.
        before, after: its neighbours; empty if unknown.
        mentions: the citation mentions in its text that cite the papers, where they are known.
    """

    text: str
    cited_ids: tuple[str, ...]
    citing_id: str = ""
    before: str = ""
    after: str = ""
    mentions: tuple[str, ...] = ()


PlacedContext = tuple[int, Context | BadRow]


def read_context(row: Mapping[str, Any]) -> Context:
    """Check a row of contexts: ``text, cited_ids[, citing_id, before, after, marker]``.

    Raises:
        BadRow: a field is missing or has a wrong type.
    """
    for name in ("text", "cited_ids"):
        if name not in row:
            raise missing_field(name, row)
    texts = []
    for name in ("text", "before", "after"):
        text = row.get(name)
        if text is None and name != "text":
            text = ""
        if not isinstance(text, str):
            raise wrong_type(name, text, "text")
        if not is_unicode(text):
            raise not_unicode(name)
        texts.append(" ".join(text.split()))
    citing = row.get("citing_id")
    # A table writes a missing id as an empty cell.
    citing = "" if citing is None or citing == "" else read_id(citing, "citing_id")
    cited = _read_ids(row["cited_ids"])
    mentions = _read_mentions(row.get("marker"))
    text, before, after = texts
    return Context(text, cited, citing, before, after, mentions)


def _read_mentions(value: Any) -> tuple[str, ...]:
    """The citation mentions of a row: one text, a list of texts, or none."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        expected = 'the text of the citation mark, such as "[12]", or a list of texts'
        raise wrong_type("marker", value, expected)
    if not all(map(is_unicode, texts)):
        raise not_unicode("marker")
    return tuple(dict.fromkeys(filter(None, (" ".join(text.split()) for text in texts))))


def _read_ids(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list in a cell of a table
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise wrong_type("cited_ids", value, 'a list of paper ids, such as ["a", "b"]')
    try:
        ids = [read_id(item, f"cited_ids[{i}]") for i, item in enumerate(value)]
    except BadRow as bad:
        raise BadRow("cited_ids holds no id", bad.message) from bad
    return tuple(dict.fromkeys(ids))


def read_contexts(table: Table) -> Iterator[PlacedContext]:
    """Every row of the contexts, checked, with its place."""
    return read_each(table.rows(), read_context)


def fulltext_contexts(
    table: Table, papers: Papers, unresolved: Reasons, exclusions: Exclusions
) -> Iterator[PlacedContext]:
    """Every citing sentence of full texts, with the place of its record.

    A bibliography entry is the known paper that one of its ids names, else its first id; mentions
    that name no work by an id are counted in ``unresolved``. Records that cannot be read are
    skipped, as are excluded ones; the step that writes documents counts them.
    """
    for place, row in table.rows():
        if isinstance(row, BadRow):
            continue
        citing = ""
        try:
            record = read_fulltext(row, table.stem(place))
            with suppress(BadRow):
                citing = read_id(record.paper_id, "paper_id")
        except BadRow:
            continue
        if exclusions.excludes(citing or None, record.title):
            continue
        ids = candidate_ids(row)
        for sentence in citing_sentences(record):
            cited: dict[str, None] = {}
            for reference in sentence.references:
                candidates = ids.get(reference) if reference is not None else None
                if candidates:
                    known = (i for i in candidates if papers.finder.find(i) >= 0)
                    cited[next(known, candidates[0])] = None
                else:
                    reason = NO_ENTRY if candidates is None else NO_ID
                    unresolved.add(reason, table.where(place))
            yield (
                place,
                Context(
                    text=sentence.text,
                    cited_ids=tuple(cited),
                    citing_id=citing,
                    before=sentence.before,
                    after=sentence.after,
                ),
            )
