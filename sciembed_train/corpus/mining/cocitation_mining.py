"""Pairs of co-cited papers, mined in SQL (``cocitation_mining.sql``); Aspire, Mysore et al. (2022).

Papers are cited together where one sentence cites them (a *context*), where a user says so
(counted pairs), or, at a coarser grain, where one paper's reference list names them. Contexts that
cite the same papers are merged: their group's pairs count once for each of the contexts, after
repeated ones are left out. Every pair of a group is taken. A long reference list has too many, k
(k - 1) / 2 for k papers, so at most ``max_pairs`` of a list are: its papers stand on a ring in
hashed order, and neighbours are taken first, then those two steps apart, and so on; each paper
takes part about equally often.

A pair's split goes by its papers: train with two training papers, test with a test paper, else
dev. Pairs that a filter on contexts, groups or counts leaves out are still *known* to be
co-cited: training must not use them as negatives.

Nothing depends on the order of the input, the number of threads or the memory allowed: choices
are arithmetic on digests of ids and texts and on the seed.

Shapes: ``P`` papers, ``E`` citations, ``N`` pairs, ``K`` known pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import PRIME, constants
from sciembed_train.corpus.sql_engine import Engine, statements

SQL = statements(Path(__file__).with_suffix(".sql"))
LARGEST_COUNT = 2**31 - 1  # larger counts are stored as this
ROWS = 1 << 16
# The steps from contexts to lists, and from lists to the pairs on their rings.
LISTS = ("different", "novel", "single", "kept")
RING = ("placed", "met")


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs of co-cited papers, ascending.

    Args:
        rows: ``[N, 2]``: papers a < b.
        split: ``[N]``: 0 for train, 1 for dev, 2 for test.
        count: ``[N]``: how often they are cited together.
        offsets: ``[N + 1]``: where each pair's contexts start in ``contexts``.
        contexts: the numbers of their contexts.
    """

    rows: NDArray[np.int32]
    split: NDArray[np.int32]
    count: NDArray[np.int32]
    offsets: NDArray[np.int64]
    contexts: NDArray[np.int64]


class CocitationMiner:
    """Mines pairs, known pairs and contexts as tables of the database.

    ``reasons`` say why each step of `LISTS` leaves out contexts.
    """

    reasons: ClassVar = (
        "given before",
        "differs from another context of its group in digits alone",
        "another context of its group in the same citing paper (one_per_citing)",
        "its group has too few contexts (min_contexts)",
    )

    def __init__(self, engine: Engine, settings: CocitationMining, seed: int) -> None:
        self.engine, self.settings = engine, settings
        self.fixed = constants(seed, 4) | {
            "p": PRIME,
            "one_per_citing": int(settings.one_per_citing),
            "min_contexts": settings.min_contexts,
            "min_count": settings.min_count,
            "max_pairs": settings.max_pairs,
            "most": LARGEST_COUNT,
        }
        for table, columns in (
            ("mentions", ("mention", "place", "list", "digest", "stripped", "citing")),
            ("members", ("list", "paper")),
            ("counted_pairs", ("a", "b", "count")),
        ):
            fields = ", ".join(f"CAST(0 AS BIGINT) AS {name}" for name in columns)
            engine.create(table, f"SELECT * FROM (SELECT {fields}) x WHERE 1 = 0")

    def add_contexts(self, mentions: Path, members: Path) -> None:
        """Add contexts and their groups from the files of `write_context_groups`."""
        for table, path in (("mentions", mentions), ("members", members)):
            self.engine.load("incoming", path)
            self._insert(table)
            path.unlink()

    def add_references(self, citations: NDArray[np.int32], usable: NDArray[np.bool_]) -> None:
        """Add the usable papers that each paper cites; ``citations`` ``[E, 2]`` ascending."""
        chosen = citations[usable[citations[:, 1]]]
        lists = -1 - chosen[:, 0].astype(np.int64)
        self.engine.load_columns("incoming", {"list": lists, "paper": chosen[:, 1]})
        self._insert("members")

    def add_pairs(self, rows: NDArray[np.int32], counts: NDArray[np.int32]) -> None:
        """Add distinct pairs ``[N, 2]``, a < b, and their counts ``[N]``."""
        self.engine.load_columns("incoming", {"a": rows[:, 0], "b": rows[:, 1], "count": counts})
        self._insert("counted_pairs")

    def _insert(self, table: str) -> None:
        self.engine.run(f"INSERT INTO {table} SELECT * FROM incoming")
        self.engine.drop("incoming")

    def mine(self, split: NDArray[np.int8]) -> None:
        """Fill the tables of pairs; ``split`` ``[P]`` is that of each paper."""
        self.prepare(split)
        self.make(*LISTS, "weights", *RING, "pairs")

    def prepare(self, split: NDArray[np.int8]) -> None:
        """Load what the steps need beside the contexts; ``split`` ``[P]`` is of each paper."""
        steps = np.arange(1, isqrt(self.settings.max_pairs) + 3, dtype=np.int64)
        self.engine.load_columns("steps", {"n": steps})
        papers = np.arange(len(split), dtype=np.int32)
        self.engine.load_columns("splits", {"paper": papers, "split": split.astype(np.int32)})

    def make(self, *steps: str) -> None:
        """Make the tables of some steps, one after the other."""
        for name in steps:
            self.engine.create(name, SQL[name], **self.fixed)

    def repeated(self) -> dict[str, tuple[int, list[int]]]:
        """Contexts left out by `LISTS`: by reason their number and the places of the first 20."""
        counts = {}
        before = "mentions"
        for table, reason in zip(LISTS, self.reasons, strict=True):
            sql = (
                f"FROM (SELECT DISTINCT mention FROM {before}) m "
                f"LEFT JOIN (SELECT DISTINCT mention FROM {table}) t ON t.mention = m.mention "
                "WHERE t.mention IS NULL"
            )
            first = self.engine.columns(
                f"SELECT DISTINCT o.mention, o.place FROM (SELECT m.mention {sql} ORDER BY "
                "m.mention LIMIT 20) x JOIN mentions o ON o.mention = x.mention ORDER BY o.mention"
            )
            if count := self.engine.number(f"SELECT COUNT(*) {sql}"):
                counts[reason] = count, first["place"].tolist()
            before = table
        return counts

    def cut(self) -> dict[str, tuple[int, int]]:
        """Lists with more than ``max_pairs`` pairs, and their pairs not taken, by kind of list."""
        rows = self.engine.columns(SQL["cut"], max_pairs=self.settings.max_pairs)
        cut = {"contexts": (0, 0), "reference lists": (0, 0)}
        for kind, lists, twice in zip(rows["kind"], rows["lists"], rows["twice"], strict=True):
            cut[list(cut)[int(kind)]] = int(lists), int(twice) // 2
        return cut

    def number(self, table: str, condition: str = "1 = 1") -> int:
        """How many rows a table, or a query in brackets, has."""
        return self.engine.number(f"SELECT COUNT(*) FROM {table} x WHERE {condition}")

    def by_split(self) -> list[int]:
        """Pairs of train, dev and test."""
        return [self.number("pairs", f"split = {number}") for number in range(3)]

    def pairs(self) -> Iterator[Pairs]:
        """Every pair, ascending, thousands at a time."""
        rest: dict[str, NDArray[Any]] = {}
        for batch in self.engine.stream(SQL["pairs_with_contexts"], ROWS):
            if rest:
                batch = {name: np.concatenate([rest[name], batch[name]]) for name in batch}
            rest = batch
            # The last pair's contexts may go on in the next batch.
            last = _starts(rest)[-1] if len(rest["a"]) else 0
            yield _pairs({name: column[:last] for name, column in rest.items()})
            rest = {name: column[last:] for name, column in rest.items()}
        if rest and len(rest["a"]):
            yield _pairs(rest)

    def prepare_known(self, papers: int) -> int:
        """How many pairs are known to be co-cited, as keys ``a * papers + b``."""
        self.engine.create("known", SQL["known"], papers=papers)
        return self.number("known")

    def known(self) -> Iterator[NDArray[np.int64]]:
        """The known pairs' keys, ascending, thousands at a time."""
        for batch in self.engine.stream("SELECT known FROM known ORDER BY known", ROWS):
            yield batch["known"].astype(np.int64)


def _starts(columns: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    a, b = columns["a"], columns["b"]
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return np.flatnonzero(new)


def _pairs(columns: dict[str, NDArray[Any]]) -> Pairs:
    starts = _starts(columns)
    context = columns["context"].astype(np.int64)
    real = context >= 0
    offsets = np.concatenate([[0], np.cumsum(real)])[[*starts, len(real)]]
    return Pairs(
        rows=np.stack([columns["a"][starts], columns["b"][starts]], axis=1).astype(np.int32),
        split=columns["split"][starts].astype(np.int32),
        count=columns["count"][starts].astype(np.int32),
        offsets=offsets.astype(np.int64),
        contexts=context[real],
    )
