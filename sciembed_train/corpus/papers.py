"""Papers from a user's files to integer keys.

A paper's key is its place among the ids in order of their text, so that neither the order of a
file nor its division into files changes anything that follows.

Shapes: ``P`` papers.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, checked_rows, read_each
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import read_paper, repeated_id
from sciembed_train.errors import UserError
from sciembed_train.progress import Stage

ROWS = 16384  # of one row group


@dataclass
class Papers:
    """The papers of a corpus by key: ids ``[P]``, ascending, and the place of each.

    ``usable`` ``[P]`` says whether a paper has a text.
    """

    ids: list[str]
    key: dict[str, int]
    usable: NDArray[np.bool_]


def write_papers(
    table: Table, to: Path, work: Path, engine: Engine, audit: Audit, stage: Stage
) -> Papers:
    """Check every row, write ``papers.parquet`` in order of the keys, and return the keys.

    Raises:
        UserError: more rows are malformed than allowed, or there is no paper with a text.
    """
    unsorted = work / "papers_as_given.parquet"
    first_seen: dict[str, int] = {}
    places = array("q")
    usable = bytearray()
    abstracts = 0
    rows = read_each(table.rows(), read_paper)
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
            abstracts += bool(paper.abstract)
            if not readable:
                audit.drop("no title and no abstract: takes part in nothing", table.where(place))
            whole = isinstance(paper.abstract, str)
            abstract = (paper.abstract, None) if whole else (None, paper.abstract)
            writer.add(len(places) - 1, paper.paper_id, paper.title, *abstract)
    audit.kept = len(first_seen)
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
    return Papers(
        ids=ids,
        key=dict(zip(ids, range(len(ids)), strict=True)),
        usable=np.frombuffer(bytes(usable), np.bool_)[order],
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
