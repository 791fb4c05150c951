"""A sample of a stream of records, drawn without holding the stream.

Every record has a key, a random number of (seed, task, its place in the stream). Those with the
lowest keys are the sample. A record that may be among them when it arrives is written to a file,
which is read again after the last record. So memory grows with the sample alone.

A sample of a classification is stratified: its classes keep their shares. As these are known only
at the end, all its records go through the file.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.tasks.task_records import Record

END = 2**64  # above every key
SLACK = 1024  # records kept beyond twice the sample before the highest keys are forgotten
NO_CLASS = -1

Classes = tuple[int, ...]
Chooser = Callable[[int, Classes], bool]


def record_key(seed: int, task: str, place: str, number: int) -> int:
    """The random key of a record of one file or split of a task, from 0 to below 2^64."""
    text = json.dumps([seed, task, place, number]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class LowestKeys:
    """The lowest keys of a stream, with at most ``size`` examples together."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys, self.examples = array("Q"), array("q")
        self.end = END if size else 0

    def offer(self, key: int, examples: int = 1) -> bool:
        """Whether a record may be among them, given those before it."""
        if key >= self.end:
            return False
        self.keys.append(key)
        self.examples.append(examples)
        if len(self.keys) > 2 * self.size + SLACK:
            self.limit()
        return True

    def limit(self) -> int:
        """The key below which all keys are among the lowest; it never rises."""
        keys, examples = np.array(self.keys, np.uint64), np.array(self.examples, np.int64)
        order = np.argsort(keys, kind="stable")
        fits = int(np.searchsorted(np.cumsum(examples[order]), self.size, side="right"))
        if fits < len(order):
            self.end = int(keys[order[fits]])
        kept = order[:fits]
        self.keys = array("Q", keys[kept].tobytes())
        self.examples = array("q", examples[kept].tobytes())
        return self.end


class Sampler:
    """Which records of a split are drawn: ``size`` examples at most, or all if -1.

    ``stratified`` keeps the shares of the classes.
    """

    def __init__(self, size: int, stratified: bool) -> None:
        self.size, self.stratified = size, stratified
        self.records = self.examples = 0
        self.by_class: Counter[int] = Counter()
        self._lowest_keys = LowestKeys(size) if size >= 0 and not stratified else None

    def offer(self, key: int, record: Record) -> bool:
        """Whether a record may be drawn, given those before it."""
        self.records += 1
        self.examples += record.examples
        self.by_class.update(record.classes)
        return self._lowest_keys is None or self._lowest_keys.offer(key, record.examples)

    def chooser(self, written: Callable[[], Iterator[tuple[int, Classes]]]) -> Chooser:
        """Which of the records are drawn, after all have been offered.

        ``written`` gives keys and classes of the records that were written.
        """
        if self.size < 0 or self.examples <= self.size:
            return lambda key, classes: True
        if self._lowest_keys is not None:
            end = self._lowest_keys.limit()
            return lambda key, classes: key < end
        strata = Counter(self._stratum(classes) for _, classes in written())
        lowest = {s: LowestKeys(quota) for s, quota in shares(strata, self.size).items()}
        for key, classes in written():
            lowest[self._stratum(classes)].offer(key)
        ends = {s: part.limit() for s, part in lowest.items()}
        return lambda key, classes: key < ends[self._stratum(classes)]

    def _stratum(self, classes: Classes) -> int:
        """The class that a record counts for: of several the one that fewest records have."""
        if not classes:
            return NO_CLASS
        return min(classes, key=lambda number: (self.by_class[number], number))


def shares(counts: Mapping[int, int], size: int) -> dict[int, int]:
    """``size`` examples shared among classes in proportion to their counts, which are more.

    By largest remainders; a class that would have none comes before all of them.
    """
    total = sum(counts.values())
    quotas = {number: size * count // total for number, count in counts.items()}

    def priority(number: int) -> tuple[bool, int, int]:
        return quotas[number] > 0, -(size * counts[number] % total), number

    for number in sorted(counts, key=priority)[: size - sum(quotas.values())]:
        quotas[number] += 1
    return quotas


class RecordFile:
    """Records in a file, each with its split, key and classes before it.

    They are written in a ``with`` block, and read again after it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("wb", buffering=1 << 20)

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, split: int, key: int, record: Record, place: int) -> None:
        """Write a record."""
        classes = ",".join(map(str, record.classes))
        body = json.dumps([record.texts, record.label, record.pairs, place], ensure_ascii=False)
        self.file.write(f"{split} {key} {classes} {body}\n".encode())

    def keys(self, split: int) -> Iterator[tuple[int, Classes]]:
        """Key and classes of every record of a split."""
        for key, classes, _ in self._lines(split):
            yield key, classes

    def records(self, split: int, chooser: Chooser) -> Iterator[tuple[Record, int]]:
        """The chosen records of a split and their places, in the order of writing."""
        for key, classes, body in self._lines(split):
            if chooser(key, classes):
                texts, label, pairs, place = json.loads(body)
                label = tuple(label) if isinstance(label, list) else label
                yield (
                    Record(tuple(map(tuple, texts)), label, tuple(map(tuple, pairs))),  # pyright: ignore[reportArgumentType]
                    place,
                )

    def _lines(self, split: int) -> Iterator[tuple[int, Classes, Any]]:
        prefix = b"%d" % split
        with self.path.open("rb", buffering=1 << 20) as file:
            for line in file:
                number, key, classes, body = line.split(b" ", 3)
                if number == prefix:
                    yield int(key), tuple(map(int, classes.split(b","))) if classes else (), body
