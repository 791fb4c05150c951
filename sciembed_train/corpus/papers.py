"""Papers and citations from a user's files to integer keys.

A paper's key is its place among the ids in order of their text, so that neither the order of a
file nor how it was cut into files changes anything that follows.

Shapes: ``P`` papers, ``E`` citations.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.readers.base import Row
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_folder import SPLITS, Split
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper, read_id, read_paper
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
    table: Table,
    rows: Iterable[Row],
    to: Path,
    work: Path,
    engine: Engine,
    audit: Audit,
    stage: Stage,
) -> Papers:
    """Check every row, write ``papers.parquet`` in order of the keys, and return the keys.

    Args:
        table: says where a row stands.
        rows: the table's rows.
        to: the file to write.
        work: a folder for what is written on the way.
        engine: sorts the papers when they do not come sorted.
        audit: the account of the rows.
        stage: is told how many rows are read.

    Raises:
        UserError: more rows are malformed than allowed, or there is no paper with a text.
    """
    raw = work / "papers_as_given.parquet"
    writer = _Writer(raw)
    seen: dict[str, int] = {}
    places = array("q")
    usable = bytearray()
    abstracts = 0
    with writer:
        for place, row in rows:
            audit.rows += 1
            if audit.rows % 4096 == 0:
                stage.reach(audit.rows)
            paper = row if isinstance(row, BadRow) else read_paper(row)
            if isinstance(paper, BadRow):
                audit.bad(paper, table.where(place))
                continue
            before = seen.setdefault(paper.paper_id, len(seen))
            if before != len(places):
                audit.bad(
                    BadRow(
                        "paper_id given twice",
                        f"`paper_id` {paper.paper_id!r} was given before, at "
                        f"{table.where(places[before])}; every paper has its own.",
                    ),
                    table.where(place),
                )
                continue
            places.append(place)
            readable = has_text(paper.title, paper.abstract)
            usable.append(readable)
            abstracts += bool(paper.abstract)
            if not readable:
                audit.drop("no title and no abstract: takes part in nothing", table.where(place))
            writer.add(paper)
    stage.reach(audit.rows)
    audit.check()
    audit.kept = len(seen)
    if seen and not abstracts:
        audit.notes.append(
            f"{table.source}: not one paper has an abstract, so titles alone are read. If the "
            "abstracts have another name than `abstract`, rename the column."
        )
    if not any(usable):
        without = (
            f"none of its {len(seen):,} papers has a title or an abstract" if seen else "empty"
        )
        raise UserError(f"{table.source}: {without}. There is nothing to read.")
    ids = sorted(seen)
    order = np.fromiter((seen[i] for i in ids), np.int64, len(ids))
    readable = np.frombuffer(bytes(usable), np.bool_)[order]
    key = dict(zip(ids, range(len(ids)), strict=True))
    if np.array_equal(order, np.arange(len(order))):
        raw.rename(to)
    else:
        _write_sorted(raw, to, engine, ids)
        raw.unlink()
    return Papers(ids, key, readable)


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
    """Writes papers as they come, some thousands at a time."""

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


def _write_sorted(raw: Path, to: Path, engine: Engine, ids: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    done = 0
    columns = ", ".join(schema.names[1:])
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        sql = f"SELECT {columns} FROM source ORDER BY paper_id"
        for batch in engine.batches(sql, raw, ROWS):
            here = batch.column("paper_id").to_pylist()
            if here != ids[done : done + len(here)]:
                raise RuntimeError("the database sorted the paper ids otherwise than Python")
            key = pa.array(np.arange(done, done + len(here), dtype=np.int32))
            arrays = [key, *(batch.column(name) for name in schema.names[1:])]
            rows = pa.RecordBatch.from_arrays(arrays, names=schema.names).cast(schema)
            writer.write_batch(rows)
            done += len(here)
    if done != len(ids):
        raise RuntimeError(f"the database gave {done} of {len(ids)} papers back")


def assign_splits(
    ids: Sequence[str],
    seed: int,
    dev_share: float,
    test_share: float,
    given: Mapping[Split, set[str]] | None = None,
) -> NDArray[np.int8]:
    """The split of every paper as a query, ``[P]``: 0 for train, 1 for dev, 2 for test.

    A hash of the id and the seed, so that it depends on no other paper. A split whose ids are
    given holds those and no others.
    """
    given = given or {}
    split = np.zeros(len(ids), np.int8)
    test = 0.0 if "test" in given else test_share
    dev = 0.0 if "dev" in given else dev_share
    salt = f"{seed} ".encode()
    for i, paper_id in enumerate(ids):
        digest = hashlib.blake2b(salt + paper_id.encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        split[i] = 2 if share < test else 1 if share < test + dev else 0
    for number, name in enumerate(SPLITS):
        if name in given:
            split[[i for i, paper_id in enumerate(ids) if paper_id in given[name]]] = number
    return split


def read_id_list(path: Path) -> set[str]:
    """The paper ids of a text file, one a line.

    Raises:
        UserError: the file cannot be read or holds a line that is not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (a list of paper ids, one a line).")
    found = set()
    for line, text in read_lines(path):
        if isinstance(text, BadRow):
            raise UserError(f"{path}:{line}: {text.message}")
        found.add(text.strip())
    return found


def read_citations(table: Table, papers: Papers, audit: Audit, stage: Stage) -> NDArray[np.int32]:
    """The distinct citations between known papers, ``[E, 2]``: citing, cited; ascending.

    Self-citations, repetitions and citations of or by unknown papers are counted and left out.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    citing, cited, places = array("i"), array("i"), array("q")
    key = papers.key.get
    rows = 0
    first_unknown = None
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
            ends = read_id(a, "citing"), read_id(b, "cited")
            bad = next((end for end in ends if isinstance(end, BadRow)), None)
            if bad is not None:
                audit.bad(bad, table.where(place))
                continue
            i, j = key(ends[0]), key(ends[1])  # pyright: ignore[reportArgumentType]
            if i is None or j is None:
                end = (
                    "citing" if j is not None else "cited" if i is not None else "citing and cited"
                )
                if first_unknown is None and rows == 1 and end == "citing and cited":
                    first_unknown = ends
                audit.drop(f"unknown {end} paper", table.where(place))
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
    pairs = _distinct(citing, cited, places, len(papers.ids), table, audit)
    audit.kept = len(pairs)
    return pairs


def _distinct(
    citing: array[int], cited: array[int], places: array[int], n: int, table: Table, audit: Audit
) -> NDArray[np.int32]:
    pairs = (
        np.frombuffer(citing, np.int32).astype(np.int64) if len(citing) else np.empty(0, np.int64)
    )
    if len(citing):
        pairs *= n
        pairs += np.frombuffer(cited, np.int32)
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    again = np.flatnonzero(pairs[1:] == pairs[:-1]) + 1
    for where in np.sort(order[again])[:20]:
        audit.drop("given before", table.where(places[int(where)]))
    if len(again) > 20:
        audit.dropped["given before"].count += len(again) - 20
    del order
    first = np.ones(len(pairs), np.bool_)
    first[again] = False
    pairs = pairs[first]
    return np.stack([pairs // n, pairs % n], axis=1).astype(np.int32)


def read_triplets(table: Table, papers: Papers, audit: Audit, stage: Stage) -> NDArray[np.int32]:
    """Triplets given ready, ``[N, 3]``: query, positive, negative; distinct and ascending.

    Those that name an unknown paper, one without a text, or a paper twice, are counted and left
    out.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    names = ("query", "positive", "negative")
    aliases = ("query_paper_id", "positive_id", "negative_id")
    found: list[tuple[int, int, int]] = []
    for place, cells in table.cells(names, aliases):
        audit.rows += 1
        if audit.rows % 4096 == 0:
            stage.reach(audit.rows)
        if isinstance(cells, BadRow):
            audit.bad(cells, table.where(place))
            continue
        ids = [read_id(cell, name) for cell, name in zip(cells, names, strict=True)]
        bad = next((i for i in ids if isinstance(i, BadRow)), None)
        if bad is not None:
            audit.bad(bad, table.where(place))
            continue
        keys = [papers.key.get(i) for i in ids]  # pyright: ignore[reportArgumentType]
        reason = None
        for name, key in zip(names, keys, strict=True):
            if key is None:
                reason = f"unknown {name}"
            elif not papers.usable[key]:
                reason = f"{name} without a text"
            if reason:
                break
        if reason is None and len(set(keys)) < 3:
            reason = "a paper twice in one triplet"
        if reason is not None:
            audit.drop(reason, table.where(place))
        else:
            found.append(tuple(keys))  # pyright: ignore[reportArgumentType]
    stage.reach(audit.rows)
    audit.check()
    rows = np.unique(np.array(found, np.int32).reshape(-1, 3), axis=0)
    if len(rows) < len(found):
        audit.drop("given before", table.source, len(found) - len(rows))
    audit.kept = len(rows)
    return rows
