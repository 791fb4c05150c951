"""SPECTER triplets from plain citations: (query, cited paper, paper not cited).

For a query paper, after Cohan et al. (2020), section 3.2:

- **positives** are papers it cites, each once before any a second time;
- **hard negatives** are cited by a paper it cites, and neither cited by it nor itself;
- **easy negatives** are random papers, never itself, a cited paper or any paper within two hops.

Papers without a text take part in nothing, not even as hops. Papers are split into train, dev and
test as queries; hops go through training papers only, so a held-out paper's references are
neither positives nor hops in a training triplet. (They still keep a paper from being an *easy*
negative: a paper within two hops over any citation is never one.)

The work is one SQL text (``triplet_mining.sql``). Every choice is a hash of integer keys and the
seed with ties broken by the key, so the rows depend neither on threads nor on the order of the
input. Queries go through in shards, cut so that the two-hop pairs of a shard fit the memory.

Shapes: ``P`` papers, ``E`` citations, ``N`` triplets.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.row_blocks import blocks
from sciembed_train.corpus.shared_work import Share, alone, own_name
from sciembed_train.corpus.sql_engine import Engine, running, statements
from sciembed_train.errors import UserError

SQL = statements(Path(__file__).with_suffix(".sql"))
PRIME = 2**31 - 69  # p = 2 (mod 3): cubing is one-to-one
BYTES_PER_PAIR = 200  # of a shard's two-hop pairs: hashed, ranked and joined
NUMBERS = 1 << 16
MIN_PAIRS = 1000


@dataclass(frozen=True)
class TripletMining:
    """How triplets are mined; defaults are SPECTER's.

    Args:
        per_query: triplets of a query, 1 to 100.
        hard: how many of them take a hard negative; the others take an easy one. A query with
            too few distinct (positive, hard negative) pairs gets easy ones in their place.
        require_hard: leave out queries that have no hard negative at all; otherwise all their
            negatives are easy.
        margin_fraction: SPECTER's own format only: the share of the spread of a query's counts
            by which a positive must stand above a hard negative.
        max_references: papers that cite more than so many are no way to hard negatives, for all
            who cite them would reach all that they cite; such lists are of whole fields.
    """

    per_query: int = 5
    hard: int = 2
    require_hard: bool = True
    margin_fraction: float = 0.5
    max_references: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.per_query <= 100:
            raise UserError(f"per_query must be 1 to 100; got {self.per_query}.")
        if not 0 <= self.hard <= self.per_query:
            raise UserError(f"hard must be 0 to per_query, here {self.per_query}; got {self.hard}.")
        if self.max_references < 1:
            raise UserError(f"max_references must be 1 or more; got {self.max_references}.")
        if not 0 < self.margin_fraction < 1:
            raise UserError(
                f"margin_fraction must be above 0 and below 1; got {self.margin_fraction}."
            )


@dataclass(frozen=True)
class Triplets:
    """Mined triplets, ordered by query.

    Args:
        rows: ``[N, 3]``: query, positive, negative.
        hard: ``[N]``: whether the negative is a hard one.
        queries: ``[Q]``: papers with a text that cite a paper with a text.
        without_hops: those of them left out for want of a hard negative.
        unfilled: triplets not made because no paper was left for an easy negative.
        of_one_text: triplets left out because their negative, or their positive, has the text of
            the query, or their negative that of a paper which the query cites.
        long_lists: papers with more than `TripletMining.max_references` references.
    """

    rows: NDArray[np.int32]
    hard: NDArray[np.bool_]
    queries: NDArray[np.int32]
    without_hops: NDArray[np.int32]
    unfilled: int
    of_one_text: int = 0
    long_lists: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


def slot_plan(per_query: int, hard: int) -> NDArray[np.int32]:
    """Which positive and which negative each triplet of a query takes.

    Row by row ``positives, hards, slot, hard, positive_place, negative_place`` for every number
    of positives (1 to ``per_query``) and of hard negatives (0 to ``per_query``) a query may have;
    more of either never matter. Hard slots come first. Positives and hard negatives are taken in
    turn, and a pair never twice: when both turns come round together (their least common
    multiple), the hard negatives move on by one.
    """
    rows: list[tuple[int, ...]] = []
    for positives in range(1, per_query + 1):
        for hards in range(per_query + 1):
            n_hard = min(hard, positives * hards)
            moved = 0
            for slot in range(per_query):
                positive = slot % positives
                if slot < n_hard:
                    if slot and slot % positives == 0 and slot % hards == 0:
                        moved += 1
                    row = (1, positive, (slot + moved) % hards)
                else:
                    row = (0, positive, slot - n_hard)
                rows.append((positives, hards, slot, *row))
    return np.array(rows, np.int32)


def constants(seed: int, count: int = 10) -> dict[str, int]:
    """Numbers ``c0``, ``c1``, ... from 1 to PRIME - 1, derived from a seed, for the SQL."""
    values = {}
    for i in range(count):
        digest = hashlib.sha256(f"triplets {seed} {i}".encode()).digest()
        values[f"c{i}"] = 1 + int.from_bytes(digest[:8], "big") % (PRIME - 1)
    return values


@dataclass(frozen=True)
class CitationGraph:
    """What triplets are mined from.

    Args:
        citations: ``[E, 2]``: citing, cited; distinct, ascending, none to itself.
        usable: whether each paper has a text ``[P]``.
        split: of each paper as a query ``[P]``: 0 for train, 1 for dev, 2 for test.
    """

    citations: NDArray[np.int32]
    usable: NDArray[np.bool_]
    split: NDArray[np.int8]

    def edges(self) -> Iterator[NDArray[np.int32]]:
        """The citations with a text at both ends, a block ``[n, 2]`` at a time."""
        for rows in blocks(len(self.citations)):
            block = np.asarray(self.citations[rows])
            yield block[self.usable[block[:, 0]] & self.usable[block[:, 1]]]

    @cached_property
    def references(self) -> NDArray[np.int64]:
        """References with a text of each paper that has one itself, ``[P]``; 0 for other papers."""
        counts = np.zeros(len(self.usable), np.int64)
        for block in self.edges():
            counts += np.bincount(block[:, 0], minlength=len(counts))
        return counts


def mine_triplets(
    engine: Engine,
    graph: CitationGraph,
    settings: TripletMining,
    seed: int,
    memory: int,
    work: Path,
    share: Share = alone,
) -> Triplets:
    """Mine the triplets of every query paper, of all splits at once.

    Args:
        engine: may hold ``memory`` bytes.
        graph: the citations.
        settings: how many triplets, and of which kinds.
        seed: of every choice.
        memory: decides how many queries are mined at once.
        work: a folder for intermediate files.
        share: does the units of the work, perhaps with other processes.
    """
    pairs = max(memory // BYTES_PER_PAIR, MIN_PAIRS)
    bounds = shard_bounds(graph, pairs, settings.max_references)
    task = TripletTask(work, graph, settings, seed, bounds, engine)
    return _gathered(share(task), graph, settings)


class TripletTask:
    """The mining of triplets, in units of neighbouring queries; see `shared_work.Task`.

    Args:
        folder: of the units' results.
        graph: the citations.
        settings: how many triplets, and of which kinds.
        seed: of every choice.
        bounds: the first query of each unit, and the one after its last.
        engine: runs the SQL.
    """

    kind = name = title = "triplets"
    unit = "shards"

    def __init__(
        self,
        folder: Path,
        graph: CitationGraph,
        settings: TripletMining,
        seed: int,
        bounds: Sequence[tuple[int, int]],
        engine: Engine,
    ) -> None:
        self.folder, self.graph, self.settings, self.seed = folder, graph, settings, seed
        self.bounds, self.engine = bounds, engine
        texts = int(graph.usable.sum())
        self.prime = next_prime(max(texts, 3))
        self._fixed = constants(seed) | {
            "p": PRIME,
            "prime": self.prime,
            "texts": texts,
            "per_query": settings.per_query,
            "need_hard": int(settings.require_hard and settings.hard > 0),
        }
        self._loaded = False

    @property
    def units(self) -> int:
        """The number of units."""
        return len(self.bounds)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what another process needs into an empty folder; return what else `open` gets."""
        np.save(folder / "citations.npy", self.graph.citations)
        np.save(folder / "usable.npy", self.graph.usable)
        np.save(folder / "split.npy", self.graph.split)
        return {"settings": asdict(self.settings), "seed": self.seed, "bounds": list(self.bounds)}

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Take over the bounds of an earlier leader, which may have had other memory."""
        self.bounds = [(low, high) for low, high in facts["bounds"]]

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, facts: Mapping[str, Any], memory: int, threads: int | None
    ) -> Iterator[TripletTask]:
        """The task that another process saved, with a database of its own of ``memory`` bytes."""
        citations = np.load(folder / "citations.npy", mmap_mode="r")
        graph = CitationGraph(
            citations, np.load(folder / "usable.npy"), np.load(folder / "split.npy")
        )
        settings = TripletMining(**facts["settings"])
        work = folder / own_name("work")
        work.mkdir(exist_ok=True)
        try:
            with running(work, memory, threads) as engine:
                task = cls(folder, graph, settings, facts["seed"], (), engine)
                task.adopt(facts)
                yield task
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def do(self, unit: int, to: Path) -> None:
        """Mine the triplets of a unit's queries into the file ``to``."""
        if not self._loaded:
            self._load()
            self._loaded = True
        self._mine(*self.bounds[unit])
        columns = self.engine.columns(SQL["triplets"])
        rows = np.stack([columns[name] for name in ("query", "positive", "negative")], axis=1)
        if np.any(np.diff(rows[:, 0]) < 0):
            raise RuntimeError("the database returned the triplets out of order")
        left_out = self.engine.columns(
            "SELECT query FROM counted WHERE hards < $need_hard ORDER BY query",
            need_hard=self._fixed["need_hard"],
        )
        wanted = self.settings.per_query * self.engine.number("SELECT COUNT(*) FROM wanted")
        with to.open("wb") as file:
            np.savez(
                file,
                rows=rows.astype(np.int32),
                hard=columns["hard"].astype(np.bool_),
                without_hops=left_out["query"].astype(np.int32),
                unfilled=np.array(wanted - len(rows)),
            )

    def _load(self) -> None:
        """Make the tables that the SQL reads."""
        graph = self.graph
        texts = np.flatnonzero(graph.usable).astype(np.int32)
        plan = slot_plan(self.settings.per_query, self.settings.hard)
        names = ("positives", "hards", "slot", "hard", "positive_place", "negative_place")
        tables = {
            "papers": {
                "paper": np.arange(len(graph.usable), dtype=np.int32),
                "usable": graph.usable.astype(np.int32),
                "split": graph.split.astype(np.int32),
            },
            "citations": {"citing": graph.citations[:, 0], "cited": graph.citations[:, 1]},
            "texts": {"slot": np.arange(len(texts), dtype=np.int64), "paper": texts},
            "numbers": {"n": np.arange(NUMBERS, dtype=np.int64)},
            "plan": dict(zip(names, plan.T, strict=True)),
        }
        for name, columns in tables.items():
            self.engine.load_columns(name, columns)
        self.engine.create("edges", SQL["edges"])
        self.engine.create("hops", SQL["hops"], max_references=self.settings.max_references)
        self.engine.drop("citations")

    def _mine(self, low: int, high: int) -> None:
        """Fill the tables of the queries ``low`` to ``high - 1``."""

        def create(table: str, name: str, **values: int) -> None:
            self.engine.create(table, SQL[name], **(self._fixed | values))

        create("reach", "reach", low=low, high=high)
        create("ranked", "ranked")
        create("counted", "counted")
        create("wanted", "wanted")
        self.engine.create(
            "easy", "SELECT query, paper, n AS step FROM reach CROSS JOIN numbers WHERE 1 = 0"
        )
        first = 0
        count = min(self.settings.per_query + 4, NUMBERS, self.prime)
        # A walk of `prime` steps visits every text, and `wanted` asks for no more than there are.
        while first < self.prime and self.engine.number(SQL["lacking"]):
            create("found", "found", first=first, count=count)
            self.engine.run("INSERT INTO easy SELECT query, paper, step FROM found")
            first += count
            count = min(count * 4, NUMBERS, max(self.prime - first, 1))


def _gathered(results: Sequence[Path], graph: CitationGraph, settings: TripletMining) -> Triplets:
    """The triplets of all units."""
    sizes = []
    for path in results:
        with np.load(path) as arrays:
            sizes.append(len(arrays["hard"]))
    rows, hard = np.empty((sum(sizes), 3), np.int32), np.empty(sum(sizes), np.bool_)
    without_hops, unfilled, done = [np.empty(0, np.int32)], 0, 0
    for path, size in zip(results, sizes, strict=True):
        with np.load(path) as arrays:
            rows[done : done + size] = arrays["rows"]
            hard[done : done + size] = arrays["hard"]
            without_hops.append(arrays["without_hops"])
            unfilled += int(arrays["unfilled"])
        done += size
    return Triplets(
        rows=rows,
        hard=hard,
        queries=np.flatnonzero(graph.references).astype(np.int32),
        without_hops=np.concatenate(without_hops),
        unfilled=unfilled,
        long_lists=np.flatnonzero(graph.references > settings.max_references).astype(np.int32),
    )


def shard_bounds(graph: CitationGraph, pairs: int, max_references: int) -> list[tuple[int, int]]:
    """Ranges of queries with at most about ``pairs`` two-hop pairs each; queries stay whole."""
    references = graph.references
    followed = np.where(references > max_references, 0, references)
    total = np.zeros(len(references), np.int64)
    for block in graph.edges():
        reached = np.bincount(
            block[:, 0], weights=1 + followed[block[:, 1]], minlength=len(references)
        )
        total += reached.astype(np.int64)
    if not total.any():
        return []
    np.cumsum(total, out=total)
    shard = (total - 1) // pairs
    starts = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
    return list(pairwise([0, *starts[1:], len(references)]))


def next_prime(n: int) -> int:
    """The smallest prime that is not below ``n``."""
    while any(n % d == 0 for d in range(2, isqrt(n) + 1)):
        n += 1
    return n
