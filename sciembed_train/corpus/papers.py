"""Papers from a user's files to integer keys.

A paper's number is its place among the ids in order of their text, so that neither the order of a
file nor its division into files changes anything that follows. Where several ids have the same
text (`text.normalise`), citations and co-cited pairs stay those of the ids that are given, but for
an encoder the ids are one paper: in triplets, for what is no negative, and for the split the first
of them stands for all.

Shapes: ``P`` papers.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit, checked_rows
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import repeated_id
from sciembed_train.errors import UserError
from sciembed_train.progress import Stage
from sciembed_train.text.cleaning import MarkupCount
from sciembed_train.text.normalise import paper_number

ROWS = 16384  # of one row group
SAME_TEXT = "the text of another id: one paper with it"


@dataclass
class Papers:
    """The papers of a corpus.

    Args:
        ids: ascending ``[P]``.
        number: of each id its place among them.
        usable: whether each has a text ``[P]``.
        first_of_text: `first`, where not all texts differ.
    """

    ids: list[str]
    number: dict[str, int]
    usable: NDArray[np.bool_]
    first_of_text: NDArray[np.int32] | None = None

    @cached_property
    def first(self) -> NDArray[np.int32]:
        """The first paper of each one's text, itself for most, ``[P]``."""
        if self.first_of_text is None:
            return np.arange(len(self.ids), dtype=np.int32)
        return self.first_of_text

    @cached_property
    def key(self) -> dict[str, int]:
        """Of each id the paper that it names for an encoder: the first one of the same text."""
        return dict(zip(self.ids, self.first.tolist(), strict=True))

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """Whether each has a text, and is the first one of it, ``[P]``."""
        return self.usable & (self.first == np.arange(len(self.ids)))

    def same_text(self, ids: set[str]) -> set[str]:
        """These ids, and the others of the same papers."""
        named = {self.key[i] for i in ids if i in self.key}
        return ids | {i for i, first in self.key.items() if first in named}


def write_papers(
    table: Table, to: Path, work: Path, engine: Engine, audit: Audit, stage: Stage
) -> Papers:
    """Check every row, write ``papers.parquet`` in order of the keys, and return the keys.

    Raises:
        UserError: more rows are malformed than allowed, or there is no paper with a text.
    """
    unsorted = work / "papers_as_given.parquet"
    first_seen: dict[str, int] = {}
    places, texts = array("q"), array("q")
    usable = bytearray()
    abstracts, markup = 0, MarkupCount()
    rows = PaperRows(table)
    with ParquetRows(unsorted, _columns(), ROWS) as writer:
        for place, paper in checked_rows(rows, table.where, audit, stage):
            before = first_seen.setdefault(paper.paper_id, len(first_seen))
            if before != len(places):
                first_place = table.where(places[before])
                audit.bad(repeated_id(paper.paper_id, first_place, "paper"), table.where(place))
                continue
            places.append(place)
            readable = has_text(paper.title, paper.abstract)
            usable.append(readable)
            texts.append(paper_number(paper.title, paper.abstract) if readable else 0)
            abstracts += has_text(None, paper.abstract)
            markup.add(table.where, place, paper.title, *paper.sentences)
            if not readable:
                audit.drop("no title and no abstract: takes part in nothing", table.where(place))
            whole = isinstance(paper.abstract, str)
            abstract = (paper.abstract, None) if whole else (None, paper.abstract)
            writer.add(len(places) - 1, paper.paper_id, paper.title, *abstract)
    audit.kept = len(first_seen)
    audit.notes += markup.notes()
    if first_seen and not abstracts:
        audit.notes.append(
            f"{table.source}: not one paper has an abstract, so titles alone are read. If the "
            "abstracts have another name than `abstract`, rename the column."
        )
    if not any(usable):
        problem = f"none of its {len(first_seen):,} papers has a title or an abstract"
        raise UserError(
            f"{table.source}: {problem if first_seen else 'empty'}. There is nothing to read."
        )
    ids = sorted(first_seen)
    order = np.fromiter((first_seen[i] for i in ids), np.int64, len(ids))
    if np.array_equal(order, np.arange(len(order))):
        unsorted.rename(to)
    else:
        _write_sorted(unsorted, to, engine, ids)
        unsorted.unlink()
    first = first_of_text(np.frombuffer(texts, np.int64)[order])
    _note_same_texts(audit, ids, first)
    return Papers(
        ids=ids,
        number={paper_id: paper for paper, paper_id in enumerate(ids)},
        usable=np.frombuffer(bytes(usable), np.bool_)[order],
        first_of_text=first,
    )


def first_of_text(texts: NDArray[np.int64]) -> NDArray[np.int32]:
    """The first paper of the same text as each, ``[P]``; ``texts`` are their `paper_number`."""
    first = np.arange(len(texts), dtype=np.int32)
    _, lowest, place = np.unique(texts, return_index=True, return_inverse=True)
    known = texts != 0
    first[known] = lowest[place.reshape(-1)][known]
    return first


def _note_same_texts(audit: Audit, ids: Sequence[str], first: NDArray[np.int32]) -> None:
    """Count the papers whose text an earlier one has."""
    more = np.flatnonzero(first != np.arange(len(first)))
    if not len(more):
        return
    pairs = [f"{ids[paper]} is {ids[int(first[paper])]}" for paper in more[:EXAMPLES]]
    audit.drop_many(SAME_TEXT, len(more), pairs)
    audit.notes.append(
        f"{len(more):,} papers have the text of another id (the first: {pairs[0]}). They are one "
        "paper with it: in triplets, for what is no negative, and for the split."
    )


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    text = pa.string()
    columns = {"paper": pa.int32(), "paper_id": text, "title": text, "abstract": text}
    return columns | {"sentences": pa.list_(text)}  # of an abstract that came as sentences


def _write_sorted(unsorted: Path, to: Path, engine: Engine, ids: Sequence[str]) -> None:
    columns = _columns()
    done = 0
    texts = ", ".join([*columns][1:])
    with ParquetRows(to, columns) as writer:
        sql = f"SELECT {texts} FROM source ORDER BY paper_id"
        for batch in engine.batches(sql, unsorted, ROWS):
            batch_ids = batch.column("paper_id").to_pylist()
            stop = done + len(batch_ids)
            if batch_ids != ids[done:stop]:
                raise RuntimeError("the database sorted the paper ids otherwise than Python")
            key = np.arange(done, stop, dtype=np.int32)
            writer.write(key, *(batch.column(c).cast(columns[c]) for c in [*columns][1:]))
            done = stop
    if done != len(ids):
        raise RuntimeError(f"the database gave {done} of {len(ids)} papers back")
