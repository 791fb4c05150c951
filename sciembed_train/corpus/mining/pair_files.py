"""The files of mined pairs: arrays for training, Parquet for people and other programs.

Shapes: ``N`` pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.cocitation_mining import Pairs
from sciembed_train.corpus.mining.sentence_pair_mining import SentencePairs
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SPLITS, ArrayWriter


class PairWriter(Protocol):
    """Writes the pairs of one split."""

    def add(self, pairs: Any, chosen: NDArray[np.bool_]) -> None:
        """Write the chosen pairs of a batch; ``chosen`` ``[N]``."""
        ...

    def close(self) -> None:
        """Complete the files."""
        ...


def write_pairs(
    batches: Iterable[Pairs] | Iterable[SentencePairs],
    writers: Sequence[PairWriter],
    on_pairs: Callable[[int], None],
) -> None:
    """Write every batch of pairs by split, and close the writers, of train, dev and test."""
    written = 0
    for pairs in batches:
        for number, writer in enumerate(writers):
            writer.add(pairs, pairs.split == number)
        written += len(pairs.rows)
        on_pairs(written)
    for writer in writers:
        writer.close()


class CocitationWriter:
    """Writes pairs of papers: ``<split>.npy``, ``<split>.count.npy`` and ``<split>.parquet``.

    Args:
        folder: where they go.
        split: its name.
        count: number of pairs in all.
        papers: the papers of the corpus.
    """

    def __init__(self, folder: Path, split: str, count: int, papers: Papers) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.ids = papers.ids
        self.rows = ArrayWriter(folder / f"{split}.npy", "<i4", (count, 2))
        self.counts = ArrayWriter(folder / f"{split}.count.npy", "<i4", (count,))
        self.schema = pa.schema(
            [
                *((name, pa.int32()) for name in ("a", "b")),
                *((name, pa.string()) for name in ("paper_a", "paper_b")),
                ("count", pa.int32()),
                ("contexts", pa.list_(pa.int64())),
            ]
        )
        self.file = pq.ParquetWriter(folder / f"{split}.parquet", self.schema, compression="zstd")

    def add(self, pairs: Pairs, chosen: NDArray[np.bool_]) -> None:
        """Write the chosen pairs of a batch; ``chosen`` ``[N]``."""
        import pyarrow as pa

        if not chosen.any():
            return
        rows, count = pairs.rows[chosen], pairs.count[chosen]
        self.rows.add(rows)
        self.counts.add(count)
        sizes = np.diff(pairs.offsets)
        contexts = pairs.contexts[np.repeat(chosen, sizes)]
        offsets = np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int32)
        names = ([self.ids[paper] for paper in column] for column in rows.T)
        columns = [*map(np.ascontiguousarray, rows.T), *names, count]
        arrays = [pa.array(c, t) for c, t in zip(columns, self.schema.types, strict=False)]
        arrays.append(pa.ListArray.from_arrays(offsets, contexts))
        self.file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))

    def close(self) -> None:
        """Complete the files."""
        for file in (self.file, self.rows, self.counts):
            file.close()


class SentencePairWriter:
    """Writes pairs of sentences: ``<split>.npy`` and ``<split>.parquet``.

    Args:
        folder: where they go.
        split: its name.
        count: number of pairs in all.
    """

    def __init__(self, folder: Path, split: str, count: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = ArrayWriter(folder / f"{split}.npy", "<i4", (count, 2))
        self.schema = pa.schema([("a", pa.int32()), ("b", pa.int32())])
        self.file = pq.ParquetWriter(folder / f"{split}.parquet", self.schema)

    def add(self, pairs: SentencePairs, chosen: NDArray[np.bool_]) -> None:
        """Write the chosen pairs of a batch; ``chosen`` ``[N]``."""
        import pyarrow as pa

        rows = pairs.rows[chosen]
        self.rows.add(rows)
        if len(rows):
            columns = [pa.array(np.ascontiguousarray(column)) for column in rows.T]
            self.file.write_batch(pa.RecordBatch.from_arrays(columns, schema=self.schema))

    def close(self) -> None:
        """Complete the files."""
        self.file.close()
        self.rows.close()


def write_citing_sentences(
    path: Path,
    number_column: str,
    batches: Iterable[Any],
    papers: Papers,
    table: Table,
    with_split: bool = False,
) -> None:
    """Write citing sentences to a Parquet file for people and other programs.

    The ``batches`` are in the order of ``number_column``, with the columns of `ContextGroups.texts`
    and perhaps ``split``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    copied = {number_column: pa.int64()} | dict.fromkeys(
        ("citing_id", "text", "before", "after"), pa.string()
    )
    derived = {"papers": pa.list_(pa.int32()), "paper_ids": pa.list_(pa.string())}
    derived |= ({"split": pa.string()} if with_split else {}) | {"place": pa.string()}
    schema = pa.schema(list((copied | derived).items()))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            cited = batch.column("cited").to_pylist()
            values = {
                "papers": cited,
                "paper_ids": [[papers.ids[paper] for paper in group] for group in cited],
                "place": [table.name(place) for place in batch.column("place").to_pylist()],
            }
            if with_split:
                values["split"] = [SPLITS[n] for n in batch.column("split").to_pylist()]
            arrays = [batch.column(name).cast(kind) for name, kind in copied.items()]
            arrays += [pa.array(values[name], kind) for name, kind in derived.items()]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
