"""Vectors that are written chunk by chunk: finished chunks survive a killed process.

At the end they are written as JSON Lines or Parquet.

Shapes: ``P`` papers, ``U`` of them at a time, ``D`` width, ``S`` sentences of one paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.full_disk import new_array
from sciembed_train.inference.quantisation import Quantisation


@runtime_checkable
class Partial(Protocol):
    """The vectors of papers in a folder, in order; ``vectors`` is the file that holds them."""

    vectors: Path

    def open(self, done: int | None) -> None:
        """Begin (None), or continue after the first ``done`` papers; later vectors are dropped."""
        ...

    def add(self, part: Any) -> None:
        """Append the next papers' vectors; they are on disk when this returns."""
        ...

    def each(self) -> Iterator[NDArray[np.float32]]:
        """Every paper's vectors, once all are written."""
        ...


class PaperVectors:
    """One vector of each paper, as an ``.npy`` file that has its full size from the start.

    Attributes:
        quantisation: how they are stored; set before `open`.
    """

    def __init__(self, folder: Path, papers: int, dim: int) -> None:
        self.vectors = folder / "vectors.npy"
        self.papers = papers
        self.quantisation = Quantisation("float32", dim)
        self.at = 0

    def open(self, done: int | None) -> None:
        """See `Partial`."""
        if done is None:
            self._array = new_array(
                self.vectors,
                self.quantisation.stored_type,
                (self.papers, self.quantisation.width),
            )
        else:
            self._array = np.load(self.vectors, mmap_mode="r+")
        self.at = done or 0

    def add(self, part: Float32[np.ndarray, "U D"]) -> None:
        """See `Partial`."""
        self._array[self.at : self.at + len(part)] = self.quantisation.encode(part)
        self._array.flush()
        self.at += len(part)

    def each(self) -> Iterator[Float32[np.ndarray, " D"]]:
        """See `Partial`."""
        yield from map(self._decoded, np.load(self.vectors, mmap_mode="r"))

    def _decoded(self, row: NDArray[Any]) -> NDArray[np.float32]:
        return self.quantisation.decode(row[None])[0]


class SentenceVectorLists:
    """Several vectors of each paper: all of them end to end, and a file of the counts."""

    def __init__(self, folder: Path, papers: int, dim: int) -> None:
        self.vectors = folder / "vectors.f32"
        self._counts = folder / "counts.i32"
        self.dim = dim

    def open(self, done: int | None) -> None:
        """See `Partial`."""
        kept = self.counts()[: done or 0] if done else np.empty(0, np.int32)
        for path, size in ((self._counts, len(kept)), (self.vectors, int(kept.sum()) * self.dim)):
            with path.open("ab") as file:
                file.truncate(4 * size)

    def add(self, part: Sequence[Float32[np.ndarray, "_ D"]]) -> None:
        """See `Partial`."""
        counts = np.array([len(vectors) for vectors in part], np.int32)
        for path, numbers in ((self.vectors, np.concatenate(part)), (self._counts, counts)):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(numbers).data)

    def counts(self) -> NDArray[np.int32]:
        """The number of vectors of each paper that is done."""
        return np.fromfile(self._counts, np.int32)

    def each(self) -> Iterator[Float32[np.ndarray, "S D"]]:
        """See `Partial`."""
        counts = self.counts()
        shape = (int(counts.sum()), self.dim)
        # A file of no bytes cannot be mapped.
        array = np.memmap(self.vectors, np.float32, "r", shape=shape) if shape[0] else None
        end = 0
        for count in counts.tolist():
            none = np.empty((0, self.dim), np.float32)
            yield none if array is None else np.asarray(array[end : end + count])
            end += count


def write_jsonl(path: Path, ids: Iterable[str], partial: Partial) -> None:
    """Write a line a paper: its id, and ``embedding`` or the list ``sentence_embeddings``."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for paper, vectors in zip(ids, partial.each(), strict=True):
            paper_id = json.dumps(paper, ensure_ascii=False)
            if vectors.ndim == 1:
                values = f'"embedding": {_json_list(vectors.tolist())}'
            else:
                lists = ", ".join(map(_json_list, vectors.tolist()))
                values = f'"sentence_embeddings": [{lists}]'
            file.write(f'{{"paper_id": {paper_id}, {values}}}\n')


def _json_list(vector: list[float]) -> str:
    # Nine digits are enough to give every float32 back.
    return "[" + ", ".join(["%.9g"] * len(vector)) % tuple(vector) + "]"


def write_parquet(path: Path, ids: Iterable[str], partial: Partial) -> None:
    """Write the same as a Parquet file, of lists of float32 or lists of such lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32())
    by_sentence = isinstance(partial, SentenceVectorLists)
    field = ("sentence_embeddings", pa.list_(vector)) if by_sentence else ("embedding", vector)
    schema = pa.schema([("paper_id", pa.string()), field])
    rows = zip(ids, partial.each(), strict=True)
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, 1024)):
            batch_ids, vectors = zip(*batch, strict=True)
            if by_sentence:
                inner = _lists(np.concatenate(vectors))
                column = pa.ListArray.from_arrays(_offsets([len(v) for v in vectors]), inner)
            else:
                column = _lists(np.stack(vectors))
            writer.write_table(pa.table([pa.array(batch_ids, pa.string()), column], schema=schema))


def _lists(vectors: Any) -> Any:
    """An Arrow array with a list for each row."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.ListArray.from_arrays(_offsets([vectors.shape[1]] * len(vectors)), flat)


def _offsets(sizes: list[int]) -> Any:
    import pyarrow as pa

    return pa.array(np.cumsum([0, *sizes]), pa.int32())
