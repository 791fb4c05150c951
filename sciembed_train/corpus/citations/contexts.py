"""Citing sentences and counted pairs as users give them: who is cited together with whom.

A context names the papers it cites, and may say which mark of its text does. What mining makes of
contexts is in ``mentions.py``.

Shapes: ``P`` papers.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow, Dropped
from sciembed_train.corpus.citations.citing_sentences import candidate_ids, citing_sentences
from sciembed_train.corpus.fulltext.fulltext_records import read_fulltext
from sciembed_train.corpus.mining.cocitation_mining import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import is_unicode, not_unicode, read_id, spell
from sciembed_train.progress import Stage

LARGEST_COUNT = 2**31 - 1
EXCLUDED = "excluded"
FILTERED = "an abstract that the filters leave out"
# Why a known paper is in no pair, by its place in `usable_papers`; 0 is a paper that may be.
REASONS = ("", "no title and no abstract", EXCLUDED, FILTERED)
UNKNOWN = "unknown paper"
NO_ENTRY = "a citation mark without a bibliography entry"
NO_ID = "a bibliography entry without an id"
# Where an abstract that came as one text is cut to count its sentences.
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


@dataclass(frozen=True)
class Context:
    """A validated row of the contexts.

    Args:
        text: the citing sentence.
        cited_ids: the papers it cites, each once, in the order given.
        citing_id: the paper it stands in; empty where none is given.
        before, after: its neighbours; empty where none are given.
        markers: the citation marks in its text that cite the papers, where they are known.
    """

    text: str
    cited_ids: tuple[str, ...]
    citing_id: str = ""
    before: str = ""
    after: str = ""
    markers: tuple[str, ...] = ()


Place = tuple[int, Context | BadRow]


def read_context(row: Mapping[str, Any]) -> Context | BadRow:
    """Check one row of the contexts: ``text, cited_ids[, citing_id, before, after, marker]``."""
    for name in ("text", "cited_ids"):
        if name not in row:
            fields = ", ".join(map(str, row))[:200] or "none"
            return BadRow(f"there is no {name}", f"there is no `{name}`; the fields are {fields}.")
    texts = []
    for name in ("text", "before", "after"):
        text = row.get(name)
        if text is None and name != "text":
            text = ""
        if not isinstance(text, str):
            return BadRow(f"{name} has a wrong type", f"`{name}` is {spell(text)}; expected text.")
        if not is_unicode(text):
            return not_unicode(name)
        texts.append(" ".join(text.split()))
    citing = row.get("citing_id")
    # A table writes a missing id as an empty cell.
    citing = "" if citing is None or citing == "" else read_id(citing, "citing_id")
    if isinstance(citing, BadRow):
        return citing
    cited, markers = _read_ids(row["cited_ids"]), _read_markers(row.get("marker"))
    for found in (cited, markers):
        if isinstance(found, BadRow):
            return found
    assert not isinstance(cited, BadRow)
    assert not isinstance(markers, BadRow)
    text, before, after = texts
    return Context(text, cited, citing, before, after, markers)


def _read_markers(value: Any) -> tuple[str, ...] | BadRow:
    """The marks of a row: one text, a list of texts, or none."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    given = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        return BadRow(
            "marker has a wrong type",
            f"`marker` is {spell(value)}; expected the text of the citation mark, such as "
            '"[12]", or a list of texts.',
        )
    if not all(map(is_unicode, given)):
        return not_unicode("marker")
    return tuple(dict.fromkeys(filter(None, (" ".join(one.split()) for one in given))))


def _read_ids(value: Any) -> tuple[str, ...] | BadRow:
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list in a cell of a table
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return BadRow(
            "cited_ids has a wrong type",
            f'`cited_ids` is {spell(value)}; expected a list of paper ids, such as ["a", "b"].',
        )
    found: dict[str, None] = {}
    for i, item in enumerate(value):
        paper_id = read_id(item, f"cited_ids[{i}]")
        if isinstance(paper_id, BadRow):
            return BadRow("cited_ids holds no id", paper_id.message)
        found[paper_id] = None
    return tuple(found)


def usable_papers(
    papers: Papers, excluded: set[str], mining: CocitationMining, abstracts: Iterable[Any]
) -> NDArray[np.int8]:
    """Whether each paper may be in a pair, ``[P]``: 0, or the place of the reason in `REASONS`.

    Args:
        papers: the papers of the corpus.
        excluded: ids of papers that are in no pair.
        mining: the filters of abstracts.
        abstracts: every paper's abstract in order, text or sentences; read only where a filter
            is set.
    """
    why = np.where(papers.usable, 0, 1).astype(np.int8)
    if mining.filters_abstracts:
        for paper, abstract in enumerate(abstracts):
            if not why[paper] and not mining.admits(sentences_of(abstract)):
                why[paper] = 3
    why[[papers.key[i] for i in excluded if i in papers.key]] = 2
    return why


def sentences_of(abstract: str | Sequence[str]) -> list[str]:
    """An abstract's sentences; those of one text by a plain rule, good enough to count them."""
    parts = _SENTENCE.split(abstract) if isinstance(abstract, str) else abstract
    return [part for part in parts if part.strip()]


def read_contexts(table: Table) -> Iterator[Place]:
    """Every row of the contexts, checked, with its place."""
    for place, row in table.rows():
        yield place, row if isinstance(row, BadRow) else read_context(row)


def fulltext_contexts(
    table: Table, papers: Papers, unresolved: dict[str, Dropped]
) -> Iterator[Place]:
    """Every citing sentence of full texts, with the place of its record.

    A bibliography entry is the known paper that one of its ids names, else its first id. Records
    that cannot be read are passed over: they are counted where documents are made.

    Args:
        table: the full texts.
        papers: the papers of the corpus.
        unresolved: is told which citation marks name no work by an id.
    """
    for place, row in table.rows():
        record = row if isinstance(row, BadRow) else read_fulltext(row, table.stem(place))
        if isinstance(row, BadRow) or isinstance(record, BadRow):
            continue
        ids = candidate_ids(row)
        citing = read_id(record.paper_id, "paper_id")
        for sentence in citing_sentences(record):
            cited: dict[str, None] = {}
            for reference in sentence.references:
                candidates = ids.get(reference) if reference is not None else None
                if candidates:
                    known = (i for i in candidates if i in papers.key)
                    cited[next(known, candidates[0])] = None
                else:
                    reason = NO_ENTRY if candidates is None else NO_ID
                    unresolved.setdefault(reason, Dropped()).add(table.where(place))
            texts = sentence.text, tuple(cited), citing if isinstance(citing, str) else ""
            yield place, Context(*texts, sentence.before, sentence.after)


def read_cocitations(
    table: Table, papers: Papers, why: NDArray[np.int8], audit: Audit, stage: Stage
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pairs given ready: distinct pairs ``[N, 2]`` of papers a < b, ascending, and counts ``[N]``.

    A pair that is given again, in either order, keeps its largest count, so that a file which
    lists every pair in both orders counts it once. Without ``count`` it is 1.

    Args:
        table: rows ``paper_a, paper_b[, count]``.
        papers: the papers of the corpus.
        why: see `usable_papers`.
        audit: the account of the rows.
        stage: is told how many rows are read.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    keys, counts, places = array("q"), array("i"), array("q")
    n = len(papers.ids)
    for place, row in table.rows():
        audit.rows += 1
        if audit.rows % 65536 == 0:
            stage.reach(audit.rows)
        found = row if isinstance(row, BadRow) else _read_pair(row)
        if isinstance(found, BadRow):
            audit.bad(found, table.where(place))
            continue
        *ids, count = found
        a, b = (papers.key.get(i) for i in ids)
        reason = None
        if a is None or b is None:
            reason = UNKNOWN
        elif a == b:
            reason = "a paper with itself"
        elif why[a] or why[b]:
            reason = REASONS[why[a] or why[b]]
        elif not count:
            reason = "a count of 0"
        if reason is not None or a is None or b is None:
            audit.drop(reason or UNKNOWN, table.where(place))
            continue
        keys.append(min(a, b) * n + max(a, b))
        counts.append(count)
        places.append(place)
    stage.reach(audit.rows)
    audit.check()
    key = np.array(keys, np.int64)
    count = np.array(counts, np.int32)
    order = np.lexsort((-count, key))  # a pair's largest count first; of equals the first given
    key, count = key[order], count[order]
    again = np.flatnonzero(key[1:] == key[:-1]) + 1
    for where in np.sort(order[again])[:20]:
        audit.drop("given before", table.where(places[int(where)]))
    if len(again) > 20:
        audit.dropped["given before"].count += len(again) - 20
    key, count = np.delete(key, again), np.delete(count, again)
    audit.kept = len(key)
    return np.stack([key // max(n, 1), key % max(n, 1)], axis=1).astype(np.int32), count


def _read_pair(row: Mapping[str, Any]) -> tuple[str, str, int] | BadRow:
    ids = []
    for name in ("paper_a", "paper_b"):
        if name not in row:
            fields = ", ".join(map(str, row))[:200] or "none"
            return BadRow(f"there is no {name}", f"there is no `{name}`; the fields are {fields}.")
        paper_id = read_id(row[name], name)
        if isinstance(paper_id, BadRow):
            return paper_id
        ids.append(paper_id)
    count = _read_count(row.get("count"))
    return count if isinstance(count, BadRow) else (ids[0], ids[1], count)


def _read_count(value: Any) -> int | BadRow:
    """How often a pair is cited together; 1 where nothing is given."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return 1
    number = value
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        number = int(value)
    if isinstance(number, float) and number.is_integer():  # a table with gaps writes floats
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        return BadRow(
            "count is no number of times",
            f"`count` is {spell(value)}; expected an integer of 0 or more, how often "
            "both are cited together.",
        )
    if number > LARGEST_COUNT:
        return BadRow("count is too large", f"`count` is {value}; at most {LARGEST_COUNT:,}.")
    return number
