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

from sciembed_train.corpus.audit import Audit, BadRow, checked_rows
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper, read_paper, repeated_id
from sciembed_train.errors import UserError
from sciembed_train.progress import Stage

ROWS = 16384  # of one row group


@dataclass
class Papers:
    """The papers of a corpus by key.

    Args:
        ids: ``[P]``, ascending.
        key: the place of each id in ``ids``.
        usable: ``[P]``: whether the paper has a text.
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
    rows = ((n, row if isinstance(row, BadRow) else read_paper(row)) for n, row in table.rows())
    with _Writer(unsorted) as writer:
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
            writer.add(paper)
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


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("paper", pa.int32()),
            ("paper_id", pa.string()),
            ("title", pa.string()),
            ("abstract", pa.string()),  # null where the abstract came as sentences
            ("sentences", pa.list_(pa.string())),
        ]
    )


class _Writer:
    """Writes papers in the order of the input, thousands at a time."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.schema = _schema()
        self.file = pq.ParquetWriter(path, self.schema, compression="zstd")
        self.rows: list[dict[str, Any]] = []
        self.count = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self.file.close()

    def add(self, paper: Paper) -> None:
        whole = isinstance(paper.abstract, str)
        self.rows.append(
            {
                "paper": self.count,
                "paper_id": paper.paper_id,
                "title": paper.title,
                "abstract": paper.abstract if whole else None,
                "sentences": None if whole else list(paper.abstract),
            }
        )
        self.count += 1
        if len(self.rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.rows:
            self.file.write_batch(pa.RecordBatch.from_pylist(self.rows, schema=self.schema))
        self.rows = []


def _write_sorted(unsorted: Path, to: Path, engine: Engine, ids: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    done = 0
    columns = ", ".join(schema.names[1:])
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        sql = f"SELECT {columns} FROM source ORDER BY paper_id"
        for batch in engine.batches(sql, unsorted, ROWS):
            batch_ids = batch.column("paper_id").to_pylist()
            if batch_ids != ids[done : done + len(batch_ids)]:
                raise RuntimeError("the database sorted the paper ids otherwise than Python")
            key = pa.array(np.arange(done, done + len(batch_ids), dtype=np.int32))
            arrays = [key, *(batch.column(name) for name in schema.names[1:])]
            rows = pa.RecordBatch.from_arrays(arrays, names=schema.names).cast(schema)
            writer.write_batch(rows)
            done += len(batch_ids)
    if done != len(ids):
        raise RuntimeError(f"the database gave {done} of {len(ids)} papers back")
