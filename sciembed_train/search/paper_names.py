"""Ids and titles of indexed papers on disk, found by row and by id without reading all of them.

A text lies in one file of UTF-8 and its ends in an array beside it; the rows of ids are found in a
sorted array of their hashes. All of it is mapped into memory.

Shapes: ``R`` papers.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError


class PaperNames:
    """The ids and titles of papers, opened."""

    def __init__(self, folder: Path) -> None:
        self._id_ends = np.load(folder / "ids.npy", mmap_mode="r")
        self._ids = _mapped(folder / "ids.utf8")
        self._hashes = np.load(folder / "hashes.npy", mmap_mode="r")
        self._rows = np.load(folder / "rows.npy", mmap_mode="r")
        self._spans = np.load(folder / "titles.npy", mmap_mode="r")
        self._titles = _mapped(folder / "titles.utf8")

    def __len__(self) -> int:
        return len(self._id_ends) - 1

    def id(self, row: int) -> str:
        """The id of a row."""
        start, stop = self._id_ends[row : row + 2].tolist()
        return self._ids[start:stop].tobytes().decode("utf-8", "surrogatepass")

    def title(self, row: int) -> str:
        """The title of a row; empty where none is known."""
        start, stop = self._spans[row].tolist()
        return self._titles[start:stop].tobytes().decode("utf-8", "surrogatepass")

    def row(self, paper_id: str) -> int | None:
        """The row of an id; None where it is not there."""
        wanted = np.uint64(_hash(paper_id))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            if self.id(int(self._rows[at])) == paper_id:
                return int(self._rows[at])
            at += 1
        return None


def write_names(folder: Path, ids: Iterable[str], source: Path) -> PaperNames:
    """Write the ids of all rows, without titles; ``source`` has them, for messages.

    Raises:
        UserError: an id comes twice.
    """
    ends, hashes = array("q", [0]), array("Q")
    with (folder / "ids.utf8").open("wb") as file:
        for paper_id in ids:
            data = paper_id.encode("utf-8", "surrogatepass")
            file.write(data)
            ends.append(ends[-1] + len(data))
            hashes.append(_hash(paper_id))
    values = np.frombuffer(hashes, np.uint64)
    rows = np.argsort(values, kind="stable")
    np.save(folder / "ids.npy", np.frombuffer(ends, np.int64))
    np.save(folder / "hashes.npy", values[rows])
    np.save(folder / "rows.npy", rows)
    (folder / "titles.utf8").write_bytes(b"")
    np.save(folder / "titles.npy", np.zeros((len(values), 2), np.int64))
    names = PaperNames(folder)
    same = np.flatnonzero(values[rows][1:] == values[rows][:-1])
    for at in same.tolist():
        if names.id(int(rows[at])) == names.id(int(rows[at + 1])):
            raise UserError(
                f"{source} holds two vectors of the paper {names.id(int(rows[at]))!r}. Give one "
                "each."
            )
    return names


def write_titles(folder: Path, titles: Iterable[tuple[str, str]]) -> tuple[PaperNames, int]:
    """Add the titles of ids, in any order; the names, and how many rows got a title."""
    names = PaperNames(folder)
    spans = np.zeros((len(names), 2), np.int64)
    at, titled = 0, 0
    with (folder / "titles.utf8").open("wb") as file:
        for row, title in _with_rows(names, titles):
            data = title.encode("utf-8", "surrogatepass")
            file.write(data)
            spans[row] = at, at + len(data)
            at += len(data)
            titled += bool(data)
    np.save(folder / "titles.npy", spans)
    return PaperNames(folder), titled


def _with_rows(names: PaperNames, titles: Iterable[tuple[str, str]]) -> Iterator[tuple[int, str]]:
    """The titles of indexed papers with their rows; mostly they come in the order of the rows."""
    expected = 0
    for paper_id, title in titles:
        row = expected if expected < len(names) and names.id(expected) == paper_id else None
        row = names.row(paper_id) if row is None else row
        if row is not None:
            expected = row + 1
            yield row, title


def _hash(paper_id: str) -> int:
    data = paper_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _mapped(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file; one of no bytes cannot be mapped."""
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
