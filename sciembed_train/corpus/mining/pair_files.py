"""The files of mined pairs: arrays for training, Parquet for people and other programs.

Shapes: ``N`` pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.citations.context_groups import TEXTS
from sciembed_train.corpus.mining.cocitation_mining import Pairs
from sciembed_train.corpus.mining.sentence_pair_mining import SentencePairs
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SPLITS, ArrayWriter, ParquetRows


class SentencePairWriter:
    """Writes the ``count`` pairs of a split: ``<split>.npy`` and ``<split>.parquet``."""

    def __init__(
        self, folder: Path, split: str, count: int, columns: Mapping[str, Any] | None = None
    ) -> None:
        import pyarrow as pa

        self.rows = ArrayWriter(folder / f"{split}.npy", "<i4", (count, 2))
        ends = {"a": pa.int32(), "b": pa.int32()}
        self.file = ParquetRows(folder / f"{split}.parquet", ends | dict(columns or {}))

    def add(self, pairs: Any, chosen: NDArray[np.bool_]) -> None:
        """Write the chosen pairs of a batch; ``chosen`` ``[N]``."""
        if chosen.any():
            rows = pairs.rows[chosen]
            self.rows.add(rows)
            self.file.write(*map(np.ascontiguousarray, rows.T), *self.derived(pairs, chosen))

    def derived(self, pairs: Any, chosen: NDArray[np.bool_]) -> Sequence[Any]:
        """The columns of the Parquet file beside the pairs."""
        return ()

    def close(self) -> None:
        """Complete the files."""
        self.file.close()
        self.rows.close()


class CocitationWriter(SentencePairWriter):
    """Writes pairs of papers, with their ids and contexts, and their ``<split>.count.npy``."""

    def __init__(self, folder: Path, split: str, count: int, papers: Papers) -> None:
        import pyarrow as pa

        columns = {"paper_a": pa.string(), "paper_b": pa.string(), "count": pa.int32()}
        super().__init__(folder, split, count, columns | {"contexts": pa.list_(pa.int64())})
        self.ids = papers.ids
        self.counts = ArrayWriter(folder / f"{split}.count.npy", "<i4", (count,))

    def derived(self, pairs: Pairs, chosen: NDArray[np.bool_]) -> Sequence[Any]:
        """Ids, counts, which also go to their own file, and contexts."""
        import pyarrow as pa

        count = pairs.count[chosen]
        self.counts.add(count)
        sizes = np.diff(pairs.offsets)
        contexts = pairs.contexts[np.repeat(chosen, sizes)]
        offsets = np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int32)
        ids = ([self.ids[paper] for paper in column] for column in pairs.rows[chosen].T)
        return *ids, count, pa.ListArray.from_arrays(offsets, contexts)

    def close(self) -> None:
        """Complete the files."""
        super().close()
        self.counts.close()


def write_pairs(
    batches: Iterable[Pairs] | Iterable[SentencePairs],
    writers: Sequence[SentencePairWriter],
    on_pairs: Callable[[int], None],
) -> None:
    """Write every batch of pairs by split, then close the writers (train, dev, test)."""
    written = 0
    for pairs in batches:
        for number, writer in enumerate(writers):
            writer.add(pairs, pairs.split == number)
        written += len(pairs.rows)
        on_pairs(written)
    for writer in writers:
        writer.close()


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

    copied = {number_column: pa.int64()} | dict.fromkeys(TEXTS, pa.string())
    derived = {"papers": pa.list_(pa.int32()), "paper_ids": pa.list_(pa.string())}
    derived |= ({"split": pa.string()} if with_split else {}) | {"place": pa.string()}
    with ParquetRows(path, copied | derived) as writer:
        for batch in batches:
            cited = batch.column("cited").to_pylist()
            values = {
                "papers": cited,
                "paper_ids": [[papers.ids[paper] for paper in group] for group in cited],
                "place": [table.name(place) for place in batch.column("place").to_pylist()],
            }
            if with_split:
                values["split"] = [SPLITS[n] for n in batch.column("split").to_pylist()]
            texts = (batch.column(name).cast(kind) for name, kind in copied.items())
            writer.write(*texts, *(values[name] for name in derived))
