"""Ids of millions of papers in little memory: a list of them, and the number of each.

A Python string takes 60 bytes and more, and its place in a dictionary a hundred; here an id takes
its letters, 4 bytes that say where it starts, and 6 to 14 of a hash table that is built once and in
which thousands are found together.

Shapes: ``N`` ids, ``W`` words of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import islice
from operator import index
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
BLOCK = 1 << 16  # ids that are worked on together
_WORD = 8  # bytes
_FILL = b"\xff"  # what fills an id's last word; no text has this byte in UTF-8
_FILLED = np.array([(2**64 - 1) << 8 * n & (2**64 - 1) for n in range(_WORD + 1)], np.uint64)
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd
_HALF = np.uint64(32)


class IdList(Sequence[str]):
    """Ids as words of 8 bytes, in their order.

    Args:
        words: of all ids, one after the other ``[W]``: UTF-8, the last one of an id filled up with
            a byte that no text has, so that ids are the same where their words are.
        starts: the first word of each id, and the end ``[N + 1]``.
    """

    def __init__(self, words: NDArray[np.uint64], starts: NDArray[np.integer]) -> None:
        self.words, self.starts = words, starts

    @classmethod
    def of(cls, texts: Iterable[str]) -> IdList:
        """The list of some texts."""
        texts, parts = iter(texts), []
        while block := list(islice(texts, BLOCK)):
            data = "".join(block).encode("utf-8", "surrogatepass")
            lengths = np.fromiter(map(len, block), np.int64, len(block))
            if len(data) != lengths.sum():  # some letters are of several bytes
                letters = (text.encode("utf-8", "surrogatepass") for text in block)
                lengths = np.fromiter(map(len, letters), np.int64, len(block))
            parts.append(_words(data, np.append(0, np.cumsum(lengths))))
        return cls._joined(parts)

    @classmethod
    def of_arrow(cls, column: Any) -> IdList:
        """The list of an Arrow array of strings without nulls."""
        if not len(column):
            return cls._joined([])
        _, ends, letters = column.buffers()
        offsets = np.frombuffer(ends, np.int32)[column.offset : column.offset + len(column) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        data = b"" if letters is None else letters[first:last].to_pybytes()
        return cls._joined([_words(data, offsets.astype(np.int64) - first)])

    @classmethod
    def _joined(cls, parts: Sequence[tuple[NDArray[np.uint64], NDArray[np.int64]]]) -> IdList:
        counts = [count for _, count in parts]
        total = sum(len(words) for words, _ in parts)
        starts = np.zeros(sum(map(len, counts)) + 1, np.uint32 if total < 2**32 else np.int64)
        if not parts:
            return cls(np.empty(0, np.uint64), starts)
        np.cumsum(np.concatenate(counts), out=starts[1:], dtype=starts.dtype)
        return cls(np.concatenate([words for words, _ in parts]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        at = index(place)
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(f"there is no id {place}; there are {len(self):,}.")
        return _text(self.words[self.starts[at] : self.starts[at + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            starts = self.starts[start : start + BLOCK + 1].astype(np.int64)
            data = self.words[starts[0] : starts[-1]].tobytes()
            ends = ((starts - starts[0]) * _WORD).tolist()
            for i in range(len(ends) - 1):
                yield _text(data[ends[i] : ends[i + 1]])


class IdNumbers(Mapping[str, int]):
    """The number of each id: its place in a list, or what ``numbers`` has there.

    Of equal ids the first one counts.

    Args:
        ids: the ids.
        numbers: theirs ``[N]``.
    """

    def __init__(self, ids: IdList, numbers: NDArray[np.integer] | None = None) -> None:
        self.ids, self.numbers = ids, numbers
        bits = max((len(ids) * 3 // 2).bit_length(), 3)
        self._shift = 64 - bits
        self.slots = np.full(1 << bits, UNKNOWN, np.int32)  # places, each near its hash
        self._size = 0
        for start in range(0, len(ids), BLOCK):
            self._insert(np.arange(start, min(start + BLOCK, len(ids)), dtype=np.int32))

    def with_numbers(self, numbers: NDArray[np.integer]) -> IdNumbers:
        """The same ids with other ``numbers`` ``[N]``, by place."""
        table = copy(self)
        table.numbers = numbers
        return table

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        if self._size == len(self.ids):
            yield from self.ids
            return
        for place, text in enumerate(self.ids):
            if self._place(text) == place:
                yield text

    def __getitem__(self, text: str) -> int:
        number = self.get(text)
        if number is None:
            raise KeyError(text)
        return number

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._place(text) >= 0

    def get(self, text: str, default: Any = None) -> Any:
        """The number of an id; ``default`` where it is not among them."""
        place = self._place(text)
        if place < 0:
            return default
        return place if self.numbers is None else int(self.numbers[place])

    def find_all(self, ids: IdList) -> NDArray[np.int32]:
        """The number of each of ``ids``, `UNKNOWN` where it is not in the table, ``[N]``."""
        numbers = np.full(len(ids), UNKNOWN, np.int32)
        for start in range(0, len(ids) if self._size else 0, BLOCK):
            stop = min(start + BLOCK, len(ids))
            starts = ids.starts[start : stop + 1].astype(np.int64)
            numbers[start:stop] = self._places(ids.words, starts)
        if self.numbers is not None:
            known = numbers >= 0
            numbers[known] = self.numbers[numbers[known]]
        return numbers

    def find_arrow(self, column: Any) -> NDArray[np.int32]:
        """As `find_all`, for an Arrow array of strings without nulls, chunked or not."""
        numbers = np.empty(len(column), np.int32)
        for start in range(0, len(column), BLOCK):
            block = column[start : start + BLOCK]
            block = block.combine_chunks() if hasattr(block, "combine_chunks") else block
            numbers[start : start + BLOCK] = self.find_all(IdList.of_arrow(block))
        return numbers

    def _places(self, words: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.int32]:
        """The place of each id of these words, `UNKNOWN` where there is none, ``[N]``."""
        places = np.full(len(starts) - 1, UNKNOWN, np.int32)
        left = np.arange(len(places))
        slot = self._first_slots(words, starts)
        while len(left):
            place = self.slots[slot]
            taken = place >= 0
            left, slot, place = left[taken], slot[taken], place[taken]
            same = self._are_same(words, starts, left, place)
            places[left[same]] = place[same]
            left, slot = left[~same], self._next(slot[~same])
        return places

    def _insert(self, left: NDArray[np.int32]) -> None:
        """Put ids, by their places, into the table; those that are there already are left out."""
        starts = self.ids.starts
        id_starts = starts[int(left[0]) : int(left[-1]) + 2].astype(np.int64)
        slot = self._first_slots(self.ids.words, id_starts)
        while len(left):
            free = self.slots[slot] == UNKNOWN
            # Backwards: where several want a slot, the first of them is written last and wins.
            self.slots[slot[free][::-1]] = left[free][::-1]
            place = self.slots[slot]
            occupied = place != left
            self._size += len(left) - int(occupied.sum())
            left, slot, place = left[occupied], slot[occupied], place[occupied]
            different = ~self._are_same(self.ids.words, starts, left, place)
            left, slot = left[different], self._next(slot[different])

    def _first_slots(
        self, words: NDArray[np.uint64], starts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Where in the table to look first for each id of these words ``[N]``."""
        first, counts = starts[:-1], np.diff(starts)
        hashes = np.zeros(len(counts), np.uint64)
        for number, active in _rounds(counts):
            mixed = (hashes[active] ^ words[first[active] + number]) * np.uint64(_MULTIPLIER)
            hashes[active] = mixed ^ (mixed >> _HALF)
        return (hashes >> np.uint64(self._shift)).astype(np.int64)

    def _next(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        return (slot + 1) & (len(self.slots) - 1)

    def _are_same(
        self,
        words: NDArray[np.uint64],
        starts: NDArray[np.integer],
        left: NDArray[Any],
        place: NDArray[np.int32],
    ) -> NDArray[np.bool_]:
        """Whether the ids ``left`` of these words are those of the table's list at ``place``."""
        id_starts, table_starts = (
            starts[left].astype(np.int64),
            self.ids.starts[place].astype(np.int64),
        )
        counts = starts[left + 1] - id_starts
        same = self.ids.starts[place + 1] - table_starts == counts
        for number, active in _rounds(np.where(same, counts, 0)):
            same[active] &= (
                words[id_starts[active] + number] == self.ids.words[table_starts[active] + number]
            )
        return same

    def _place(self, text: str) -> int:
        """The place of one id, as `_places` finds it."""
        if not self._size:
            return UNKNOWN
        letters = _filled(text)
        hashed = 0
        for start in range(0, len(letters), _WORD):
            word = int.from_bytes(letters[start : start + _WORD], "little")
            hashed = (hashed ^ word) * _MULTIPLIER & 2**64 - 1
            hashed ^= hashed >> 32
        slot = hashed >> self._shift
        starts, words, slots = self.ids.starts, self.ids.words, self.slots
        while (place := int(slots[slot])) >= 0:
            if words[int(starts[place]) : int(starts[place + 1])].tobytes() == letters:
                return place
            slot = (slot + 1) & (len(slots) - 1)
        return UNKNOWN


def _words(data: bytes, offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The words of texts of UTF-8, and how many each has; ``offsets`` ``[N + 1]`` into ``data``."""
    lengths = np.diff(offsets)
    counts = (lengths + _WORD - 1) // _WORD
    ends = np.cumsum(counts)
    words = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
    # At each byte the word that starts there.
    every = np.ndarray((len(data) + 1,), "<u8", data + _FILL * _WORD, strides=(1,))
    for number, active in _rounds(counts):
        rest = np.minimum(lengths[active] - number * _WORD, _WORD)
        word = every[offsets[:-1][active] + number * _WORD] | _FILLED[rest]
        words[(ends - counts)[active] + number] = word
    return words, counts


def _rounds(counts: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """0, 1, ... while some id has more words than that, and the places of those ids."""
    number, active = 0, np.flatnonzero(counts > 0)
    while len(active):
        yield number, slice(None) if len(active) == len(counts) else active
        number += 1
        active = active[counts[active] > number]


def _filled(text: str) -> bytes:
    letters = text.encode("utf-8", "surrogatepass")
    return letters + _FILL * (-len(letters) % _WORD)


def _text(letters: bytes) -> str:
    return letters.rstrip(_FILL).decode("utf-8", "surrogatepass")
