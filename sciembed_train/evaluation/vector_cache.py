"""Vectors on disk, found again by what they are of: none is computed twice.

The folder holds parts. A part is an ``.npy`` file of vectors, followed by two more arrays: the key
of each item, and where each item's vectors begin. It is named by the checksum of its bytes, and has
its name once it is whole and on the disk. So a killed process loses the part that it was making and
no other, several processes may fill the same folder, and a damaged part is found.

Shapes: ``P`` items that are asked for, ``U`` items of a part, ``S`` vectors of either, ``D`` width;
``O`` is the number of items plus 1.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int64

from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.embedding import NotFiniteError
from sciembed_train.inference.sentence_embedding import Vectors
from sciembed_train.whole_folder import left_behind, sync_folder

KEY = 16  # bytes
BLOCK = 4096  # items that are copied out of a part at once
SAFE = "The parts that were written are whole. Make room and run the same command again."

Item = TypeVar("Item")


def key_of(content: str) -> bytes:
    """The key of an item whose vectors follow from a text."""
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=KEY).digest()


@dataclass(frozen=True)
class Part:
    """A part that was found undamaged; its vectors stay on disk.

    Args:
        path: its file.
        starts: index of each item's first vector, and the number of all vectors.
    """

    path: Path
    starts: Int64[np.ndarray, " O"]

    def open(self) -> Float32[np.ndarray, "S D"]:
        """All of its vectors, memory-mapped.

        Raises:
            UserError: the file is gone, or no longer what it was.
        """
        return _mapped(self.path)


class VectorCache:
    """The vectors of one model, read in one way, each item with one vector or several.

    Args:
        folder: made where it is missing.
        dim: width of a vector.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self.parts: list[Part] = []
        self._first_item = [0]  # of each part, and the number of all items
        self._item_of: dict[bytes, int] = {}

    def fill(
        self,
        items: Iterable[Item],
        key: Callable[[Item], bytes],
        encode: Callable[[Iterator[Item]], Iterator[Sequence[Vectors]]],
        what: str = "text",
        done: Callable[[int], object] | None = None,
    ) -> list[bytes]:
        """The keys of items, all of which have their vectors in the folder afterwards.

        Args:
            items: read once, in order, and no more of them kept than ``encode`` takes at once.
            key: of an item; items of the same key have the same vectors.
            encode: gives the vectors of items in their order, a chunk at a time; it gets each item
                that is missing once. A chunk becomes a part.
            what: an item is, for messages.
            done: called with the number of items just finished that ``encode`` was not given.

        Raises:
            UserError: the folder cannot be written, or holds a damaged part.
            NotFiniteError: a vector is not finite; ``number`` counts all items.
            RunError: the disk is full.
        """
        self._read_parts()
        keys: list[bytes] = []
        new: set[bytes] = set()
        pending: deque[tuple[int, bytes]] = deque()  # of the items that `encode` has taken

        def missing() -> Iterator[Item]:
            for at, item in enumerate(items):
                keys.append(key(item))
                if keys[-1] not in self._item_of and keys[-1] not in new:
                    new.add(keys[-1])
                    pending.append((at, keys[-1]))
                    yield item

        reported = 0
        try:
            for vectors in encode(missing()):
                chunk = [pending.popleft() for _ in vectors]
                self._write([own for _, own in chunk], vectors)
                passed = chunk[-1][0] + 1
                if done is not None:
                    done(passed - reported - len(chunk))
                reported = passed
        except NotFiniteError as error:
            number = pending[error.number][0]
            raise error.named(f"{what} {number + 1:,}", number) from None
        assert not pending
        if done is not None:
            done(len(keys) - reported)
        return keys

    def gather(
        self, keys: Sequence[bytes]
    ) -> tuple[Float32[np.ndarray, "S D"], Int64[np.ndarray, " O"]]:
        """The vectors of items that `fill` was given, item after item, and where each one's begin.

        Raises:
            UserError: a part is gone, or no longer what it was.
        """
        items = np.fromiter((self._item_of[key] for key in keys), np.int64, len(keys))
        part_of = np.searchsorted(self._first_item, items, side="right") - 1
        by_part = np.argsort(part_of, kind="stable")
        groups = np.split(by_part, np.flatnonzero(np.diff(part_of[by_part])) + 1)
        groups = [group for group in groups if len(group)]
        first, counts = np.empty_like(items), np.empty_like(items)
        for group in groups:
            number = part_of[group[0]]
            starts, within = self.parts[number].starts, items[group] - self._first_item[number]
            first[group] = starts[within]
            counts[group] = starts[within + 1] - starts[within]
        to = np.cumsum([0, *counts])
        gathered = np.empty((int(to[-1]), self.dim), np.float32)
        for group in groups:
            vectors = self.parts[part_of[group[0]]].open()
            for start in range(0, len(group), BLOCK):
                block = group[start : start + BLOCK]
                rows = _ranges(first[block], counts[block])
                gathered[_ranges(to[block], counts[block])] = vectors[rows]
        return gathered, to

    def _read_parts(self) -> None:
        """Take in the parts that others have written, and sweep what dead processes left."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be a folder of vectors: {error.strerror or error}. Give a "
                "place that can."
            ) from error
        known = {part.path.name for part in self.parts}
        for name in names:
            path = self.folder / name
            start, _, pid = name.rpartition("-")
            if ".partial-" in name:
                host = start.partition(".partial-")[2]
                if pid.isdigit() and left_behind(path, host, int(pid)):
                    path.unlink(missing_ok=True)
            elif path.suffix == ".npy" and name not in known:
                self._take_in(path)

    def _take_in(self, path: Path) -> None:
        status = path.stat()
        if _checksum(path, status.st_mtime_ns, status.st_size) != path.stem:
            raise _damaged(path, "its bytes are not those that were written")
        vectors = _mapped(path)
        if vectors.shape[1] != self.dim:
            raise _damaged(
                path, f"its vectors are {vectors.shape[1]} wide, and the model's {self.dim}"
            )
        with path.open("rb") as file:
            file.seek(vectors.offset + vectors.nbytes)
            keys, starts = np.load(file), np.load(file)
        if len(starts) != len(keys) + 1 or starts[-1] != len(vectors):
            raise _damaged(path, "it has other numbers of keys and of vectors")
        self._add(Part(path, starts), keys.tobytes())

    def _add(self, part: Part, keys: bytes) -> None:
        before = self._first_item[-1]
        for at in range(len(keys) // KEY):
            # Where another process has written the same item, the first that was seen is kept.
            self._item_of.setdefault(keys[KEY * at : KEY * (at + 1)], before + at)
        self.parts.append(part)
        self._first_item.append(before + len(keys) // KEY)

    def _write(self, keys: Sequence[bytes], vectors: Sequence[Vectors]) -> None:
        """Write a part; it is on the disk when this returns."""
        starts = np.cumsum([0, *map(len, vectors)])
        joined = b"".join(keys)
        content = io.BytesIO()
        np.save(content, np.concatenate(vectors))
        np.save(content, np.frombuffer(joined, np.uint8).reshape(-1, KEY))
        np.save(content, starts)
        path = self.folder / f"{_digest(content.getbuffer())}.npy"
        partial = self.folder / f".{path.stem}.partial-{socket.gethostname()}-{os.getpid()}"
        try:
            with told_full_disk(path, SAFE), partial.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(self.folder)
        self._add(Part(path, starts), joined)


def _ranges(
    starts: Int64[np.ndarray, " _"], counts: Int64[np.ndarray, " _"]
) -> Int64[np.ndarray, " S"]:
    """The numbers from each start on, as many as its count, range after range."""
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return within + np.repeat(starts, counts)


def _mapped(path: Path) -> np.memmap:
    """The vectors of a part's file ``[S, D]``."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise _damaged(path, f"it holds {vectors.dtype} of shape {vectors.shape}")
    return vectors


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is damaged: {why}. Delete it and run the same command again; its vectors are then "
        "computed anew."
    )


@lru_cache(maxsize=2**16)
def _checksum(path: Path, changed: int, size: int) -> str:
    """The checksum of a file, which is read once as long as it does not change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _digest(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
