"""Citations from a user's files to pairs of integer keys.

Shapes: ``E`` citations.
"""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.unmatched_ids import UnmatchedIds
from sciembed_train.corpus.validation import read_id
from sciembed_train.progress import Stage


def read_citations(table: Table, papers: Papers, audit: Audit, stage: Stage) -> NDArray[np.int32]:
    """The distinct citations between known papers, ``[E, 2]``: citing, cited; ascending.

    Self-citations, repetitions and citations of or by unknown papers are counted and left out.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    citing, cited, places = array("i"), array("i"), array("q")
    key = papers.number.get
    rows = 0
    first_unknown = None
    unmatched = UnmatchedIds()
    for place, cells in table.cells(("citing", "cited")):
        rows += 1
        if rows % 65536 == 0:
            stage.reach(rows)
        if isinstance(cells, BadRow):
            audit.bad(cells, table.where(place))
            continue
        a, b = cells
        # Most ids are known as they stand; only the others are looked at closely.
        i = key(a) if type(a) is str else None
        j = key(b) if type(b) is str else None
        if i is None or j is None:
            try:
                ends = read_id(a, "citing"), read_id(b, "cited")
            except BadRow as bad:
                audit.bad(bad, table.where(place))
                continue
            i, j = map(key, ends)
            if i is None or j is None:
                unknown = [n for n, k in (("citing", i), ("cited", j)) if k is None]
                if rows == 1 and len(unknown) == 2:
                    first_unknown = ends
                unmatched.add(*(name for name, k in zip(ends, (i, j), strict=True) if k is None))
                audit.drop(f"unknown {' and '.join(unknown)} paper", table.where(place))
                continue
        if i == j:
            audit.drop("a paper citing itself", table.where(place))
            continue
        citing.append(i)
        cited.append(j)
        places.append(place)
    stage.reach(rows)
    audit.rows = rows
    audit.check()
    if first_unknown is not None and len(citing):
        audit.notes.append(
            f"The first row ({first_unknown[0]}, {first_unknown[1]}) names no known paper. If it "
            "is a header, its columns should be called citing and cited."
        )
    if note := unmatched.note(table.source, rows, "citations", papers.ids):
        audit.notes.append(note)
    # In place, for there may be very many.
    keys = np.array(citing, np.int64)
    keys *= len(papers.ids)
    keys += np.array(cited, np.int32)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    repeated = drop_repeated(keys, order, places, table, audit)
    del order
    keys = np.delete(keys, repeated)
    audit.kept = len(keys)
    return unpacked(keys, len(papers.ids))


def drop_repeated(
    keys: NDArray[np.int64],
    order: NDArray[np.int64],
    places: array[int],
    table: Table,
    audit: Audit,
) -> NDArray[np.int64]:
    """Where ascending keys repeat the one before, counted in ``audit`` as given before.

    Args:
        keys: of the rows in their new order, ``[E]``.
        order: the row of each key, ``[E]``.
        places: of the rows as they were read.
        table: names a place.
        audit: of the rows.
    """
    repeated = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    first_rows = np.sort(order[repeated]).tolist()
    audit.drop_many("given before", len(repeated), (table.where(places[r]) for r in first_rows))
    return repeated


def unpacked(keys: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    """The pairs ``[E, 2]`` of keys ``a * n + b``."""
    return np.stack([keys // max(n, 1), keys % max(n, 1)], axis=1).astype(np.int32)


def save_citations(folder: Path, citations: NDArray[np.int32]) -> None:
    """Write ``citations.npy`` and ``citations.parquet``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(folder / "citations.npy", citations)
    columns = {
        "citing": np.ascontiguousarray(citations[:, 0]),
        "cited": np.ascontiguousarray(citations[:, 1]),
    }
    pq.write_table(pa.table(columns), folder / "citations.parquet", compression="zstd")
