"""Citing sentences and counted pairs as users give them: who is cited together with whom.

A context names the papers it cites. Papers of it that cannot be in a pair are removed, each
counted with its reason; what is left of two or more papers is a *group*. Contexts are streamed:
what mining needs of them goes to files of integers, their texts to another file.

Shapes: ``P`` papers.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.citing import candidate_ids, citing_sentences
from sciembed_train.corpus.formats import Table
from sciembed_train.corpus.fulltexts import read_fulltext
from sciembed_train.corpus.mining.cocitations import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.progress import Stage
from sciembed_train.corpus.validate import (
    Audit,
    BadRow,
    Dropped,
    half_pair,
    is_unicode,
    read_id,
    spell,
)

ROWS = 8192  # of one row group
LARGEST_COUNT = 2**31 - 1
# Why a known paper is in no pair, by its place in `usable_papers`; 0 is a paper that may be.
REASONS = ("", "no title and no abstract", "excluded", "an abstract that the filters leave out")
UNKNOWN = "unknown paper"
NO_ENTRY = "a citation mark without a bibliography entry"
NO_ID = "a bibliography entry without an id"
_DIGITS = re.compile(r"\d+")
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
    """

    text: str
    cited_ids: tuple[str, ...]
    citing_id: str = ""
    before: str = ""
    after: str = ""


Place = tuple[int, Context | BadRow]


def read_context(row: Mapping[str, Any]) -> Context | BadRow:
    """Check one row of the contexts: ``text, cited_ids[, citing_id, before, after]``."""
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
            return half_pair(name)
        texts.append(" ".join(text.split()))
    citing = row.get("citing_id")
    # A table writes a missing id as an empty cell.
    citing = "" if citing is None or citing == "" else read_id(citing, "citing_id")
    if isinstance(citing, BadRow):
        return citing
    cited = _read_ids(row["cited_ids"])
    return cited if isinstance(cited, BadRow) else Context(texts[0], cited, citing, *texts[1:])


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


@dataclass
class Mentions:
    """The files of contexts read, for mining; see `write_mentions`."""

    mentions: Path
    members: Path
    texts: Path
    removed: dict[str, Dropped] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)  # contexts by the number of papers left


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


def write_mentions(
    rows: Iterable[Place],
    table: Table,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    work: Path,
    audit: Audit,
    stage: Stage,
) -> Mentions:
    """Check every context, and write what mining needs.

    ``mentions`` has a row for each context that the filters let pass, ``members`` the papers of
    every context with two or more left, whether it passes or not, and ``texts`` those that pass.

    Args:
        rows: the contexts.
        table: says where one stands.
        papers: the papers of the corpus.
        why: see `usable_papers`.
        mining: the filters.
        work: a folder for the files.
        audit: the account of the rows.
        stage: is told how many rows are read.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    found = Mentions(
        work / "mentions.parquet", work / "members.parquet", work / "context_texts.parquet"
    )
    with _Writer(found) as writer:
        for place, context in rows:
            audit.rows += 1
            if audit.rows % 4096 == 0:
                stage.reach(audit.rows)
            if isinstance(context, BadRow):
                audit.bad(context, table.where(place))
                continue
            group = _group(context, papers, why)
            if len(group) < len(context.cited_ids):
                _explain_removed(context, papers, why, found.removed, table.where(place))
            if len(group) < 2:
                audit.drop(_too_few(context), table.where(place))
                continue
            found.sizes[len(group)] = found.sizes.get(len(group), 0) + 1
            of_group = _digest("\0".join(papers.ids[paper] for paper in group))
            writer.group(of_group, group)
            reason = mining.refuses(context.text, len(group))
            if reason is not None:
                audit.drop(reason, table.where(place))
                continue
            writer.context(audit.rows, place, of_group, group, context)
    stage.reach(audit.rows)
    audit.check()
    return found


def _group(context: Context, papers: Papers, why: NDArray[np.int8]) -> list[int]:
    """The papers of a context that may be in a pair, ascending."""
    found = (papers.key.get(paper_id) for paper_id in context.cited_ids)
    return sorted(paper for paper in found if paper is not None and not why[paper])


def _explain_removed(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    removed: dict[str, Dropped],
    where: str,
) -> None:
    """Count the papers of a context that may be in no pair."""
    for paper_id in context.cited_ids:
        paper = papers.key.get(paper_id)
        reason = UNKNOWN if paper is None else REASONS[why[paper]]
        if reason:
            removed.setdefault(reason, Dropped()).add(f"{paper_id}, {where}")


def _too_few(context: Context) -> str:
    if not context.cited_ids:
        return "cites no paper"
    if len(context.cited_ids) == 1:
        return "cites one paper only"
    return "of the papers it cites fewer than two are left"


def _digest(text: str) -> int:
    """A number from 1 to 2^62 that a text stands for."""
    found = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return 1 + (int.from_bytes(found, "big") >> 2)


class _Writer:
    """Writes the three files as contexts come, some thousands at a time."""

    def __init__(self, paths: Mentions) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        columns = {
            paths.mentions: dict.fromkeys(
                ("mention", "place", "list", "digest", "stripped", "citing"), pa.int64()
            ),
            paths.members: {"list": pa.int64(), "paper": pa.int32()},
            paths.texts: {"mention": pa.int64(), "place": pa.int64()}
            | dict.fromkeys(("citing_id", "text", "before", "after"), text)
            | {"cited": pa.list_(pa.int32())},
        }
        self.schemas = [pa.schema(list(fields.items())) for fields in columns.values()]
        self.files = [
            pq.ParquetWriter(path, schema, compression="zstd")
            for path, schema in zip(columns, self.schemas, strict=True)
        ]
        self.rows: list[list[tuple[Any, ...]]] = [[], [], []]

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for number, file in enumerate(self.files):
            self._flush(number)
            file.close()

    def group(self, of_group: int, group: Sequence[int]) -> None:
        """Papers that are cited together."""
        self.rows[1].extend((of_group, paper) for paper in group)
        self._flush(1, ROWS)

    def context(
        self, mention: int, place: int, of_group: int, group: list[int], context: Context
    ) -> None:
        """A context that the filters let pass."""
        texts = (context.citing_id, context.text, context.before, context.after)
        digest = _digest("\0".join((str(of_group), *texts)))
        stripped = _digest(" ".join(_DIGITS.sub("", context.text).split()))
        citing = _digest(context.citing_id) if context.citing_id else 0
        self.rows[0].append((mention, place, of_group, digest, stripped, citing))
        self.rows[2].append((mention, place, *texts, group))
        for number in (0, 2):
            self._flush(number, ROWS)

    def _flush(self, number: int, least: int = 1) -> None:
        import pyarrow as pa

        rows, schema = self.rows[number], self.schemas[number]
        if len(rows) < least:
            return
        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
        ]
        self.files[number].write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        self.rows[number] = []


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
            f"`count` is {spell(value)}; expected an integer, how often both are cited together.",
        )
    if number > LARGEST_COUNT:
        return BadRow("count is too large", f"`count` is {value}; at most {LARGEST_COUNT:,}.")
    return number
