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
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.sql_engine import Engine, statements
from sciembed_train.errors import UserError

SQL = statements(Path(__file__).with_suffix(".sql"))
PRIME = 2**31 - 69  # p = 2 (mod 3): cubing is one-to-one
BYTES_PER_PAIR = 200  # of a shard's two-hop pairs: hashed, ranked and joined
NUMBERS = 1 << 16


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
    """Numbers ``c0``, ``c1``, ... from 1 to PRIME - 1 that a seed stands for in the SQL."""
    values = {}
    for i in range(count):
        digest = hashlib.sha256(f"triplets {seed} {i}".encode()).digest()
        values[f"c{i}"] = 1 + int.from_bytes(digest[:8], "big") % (PRIME - 1)
    return values


def mine_triplets(
    engine: Engine,
    citations: NDArray[np.int32],
    usable: NDArray[np.bool_],
    split: NDArray[np.int8],
    settings: TripletMining,
    seed: int,
    memory: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> Triplets:
    """Mine the triplets of every query paper, of all splits at once.

    ``citations`` are ``[E, 2]``: citing, cited; distinct, ascending, none to itself. ``usable``
    ``[P]`` says whether a paper has a text, ``split`` ``[P]`` is 0 for train, 1 for dev, 2 for
    test. The engine may hold ``memory`` bytes; ``on_shard`` gets the number of shards done and of
    all.
    """
    edges = citations[usable[citations[:, 0]] & usable[citations[:, 1]]]
    queries = np.unique(edges[:, 0]).astype(np.int32)
    texts = np.flatnonzero(usable).astype(np.int32)
    prime = next_prime(max(len(texts), 3))
    references = np.bincount(edges[:, 0], minlength=len(usable))
    long_lists = np.flatnonzero(references > settings.max_references).astype(np.int32)
    bounds = _shard_bounds(
        edges, references, max(memory // BYTES_PER_PAIR, 1000), settings.max_references
    )
    del edges
    _load(engine, citations, usable, split, texts, settings)
    fixed = constants(seed) | {
        "p": PRIME,
        "prime": prime,
        "texts": len(texts),
        "per_query": settings.per_query,
        "need_hard": int(settings.require_hard and settings.hard > 0),
    }
    parts: list[dict[str, NDArray[Any]]] = []
    dropped: list[NDArray[np.int32]] = []
    expected = 0
    for number, (low, high) in enumerate(bounds):
        _mine_shard(engine, low, high, prime, settings, fixed)
        parts.append(engine.columns(SQL["triplets"]))
        left_out = engine.columns(
            "SELECT query FROM counted WHERE hards < $need_hard ORDER BY query",
            need_hard=fixed["need_hard"],
        )
        dropped.append(left_out["query"].astype(np.int32))
        expected += settings.per_query * engine.number("SELECT COUNT(*) FROM wanted")
        if on_shard:
            on_shard(number + 1, len(bounds))
    columns = {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0, np.int32)
        for name in ("query", "positive", "negative", "hard")
    }
    rows = np.stack([columns[n] for n in ("query", "positive", "negative")], axis=1)
    if np.any(np.diff(rows[:, 0]) < 0):
        raise RuntimeError("the database returned the triplets out of order")
    return Triplets(
        rows=rows.astype(np.int32),
        hard=columns["hard"].astype(np.bool_),
        queries=queries,
        without_hops=np.concatenate(dropped) if dropped else np.empty(0, np.int32),
        unfilled=expected - len(rows),
        long_lists=long_lists,
    )


def _load(
    engine: Engine,
    citations: NDArray[np.int32],
    usable: NDArray[np.bool_],
    split: NDArray[np.int8],
    texts: NDArray[np.int32],
    settings: TripletMining,
) -> None:
    """The tables that the SQL reads."""
    plan = slot_plan(settings.per_query, settings.hard)
    names = ("positives", "hards", "slot", "hard", "positive_place", "negative_place")
    tables = {
        "papers": {
            "paper": np.arange(len(usable), dtype=np.int32),
            "usable": usable.astype(np.int32),
            "split": split.astype(np.int32),
        },
        "citations": {"citing": citations[:, 0], "cited": citations[:, 1]},
        "texts": {"slot": np.arange(len(texts), dtype=np.int64), "paper": texts},
        "numbers": {"n": np.arange(NUMBERS, dtype=np.int64)},
        "plan": dict(zip(names, plan.T, strict=True)),
    }
    for name, columns in tables.items():
        engine.load_columns(name, columns)
    engine.create("edges", SQL["edges"])
    engine.create("hops", SQL["hops"], max_references=settings.max_references)
    engine.drop("citations")


def _mine_shard(
    engine: Engine,
    low: int,
    high: int,
    prime: int,
    settings: TripletMining,
    fixed: dict[str, int],
) -> None:
    """Fill the tables of the queries ``low`` to ``high - 1``."""

    def create(table: str, name: str, **values: int) -> None:
        engine.create(table, SQL[name], **(fixed | values))

    create("reach", "reach", low=low, high=high)
    create("ranked", "ranked")
    create("counted", "counted")
    create("wanted", "wanted")
    engine.create(
        "easy", "SELECT query, paper, n AS step FROM reach CROSS JOIN numbers WHERE 1 = 0"
    )
    first = 0
    count = min(settings.per_query + 4, NUMBERS, prime)
    # A walk of `prime` steps visits every text, and `wanted` asks for no more than there are.
    while first < prime and engine.number(SQL["lacking"]):
        create("found", "found", first=first, count=count)
        engine.run("INSERT INTO easy SELECT query, paper, step FROM found")
        first += count
        count = min(count * 4, NUMBERS, max(prime - first, 1))


def _shard_bounds(
    edges: NDArray[np.int32], references: NDArray[np.int64], pairs: int, max_references: int
) -> list[tuple[int, int]]:
    """Ranges of queries with at most about ``pairs`` two-hop pairs each, a query never cut."""
    if not len(edges):
        return []
    n_papers = len(references)
    followed = np.where(references > max_references, 0, references)
    reached = np.bincount(
        edges[:, 0], weights=1 + followed[edges[:, 1]], minlength=n_papers
    ).astype(np.int64)
    total = np.cumsum(reached)
    shard = (total - 1) // pairs
    starts = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
    return list(pairwise([0, *starts[1:], n_papers]))


def next_prime(n: int) -> int:
    """The smallest prime that is not below ``n``."""
    while any(n % d == 0 for d in range(2, isqrt(n) + 1)):
        n += 1
    return n
