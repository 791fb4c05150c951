"""Fewer queries and candidates than a collection has, for choices that are made many times.

Shapes: ``N`` papers, ``Q`` queries, ``K`` queries that are kept, ``C`` candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64


def hash_order(ids: Sequence[str], seed: int) -> list[int]:
    """Positions of ids in an order that depends on each id and the seed alone."""
    return sorted(
        range(len(ids)), key=lambda at: hashlib.sha256(f"{seed} {ids[at]}".encode()).digest()
    )


def draw_candidates(
    paper_ids: Sequence[str],
    query_ids: Sequence[str],
    wanted: Sequence[Int64[np.ndarray, " _"]],
    sample: int,
    seed: int = 0,
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " C"]]:
    """Queries whose relevant papers fill at most half of a sample, and a sample of the papers.

    Queries are taken by a hash of their ids, at most half as many as the sample has papers and
    the first in any case; the sample has their relevant papers, then others by a hash of theirs.

    Args:
        paper_ids: of the collection, ``[N]``.
        query_ids: of the queries, ``[Q]``.
        wanted: positions of each query's relevant papers.
        sample: most candidates.
        seed: of the hashes.

    Returns:
        Positions of the queries that are kept and of the candidates, both ascending.
    """
    kept: list[int] = []
    relevant: set[int] = set()
    for query in hash_order(query_ids, seed)[: max(1, sample // 2)]:
        larger = relevant | set(wanted[query].tolist())
        if kept and len(larger) > sample // 2:
            continue
        kept.append(query)
        relevant = larger
    others = (at for at in hash_order(paper_ids, seed) if at not in relevant)
    filled = [at for _, at in zip(range(sample - len(relevant)), others, strict=False)]
    candidates = np.array(sorted(relevant | set(filled)), dtype=np.int64)
    return np.array(sorted(kept), dtype=np.int64), candidates


def dev_and_test(queries: Iterable[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """Queries in two halves: those that choose step and alpha, and those that give the verdict.

    Each query's half depends on its id and the seed alone, so that it stays where it is when others
    come or go. Order is kept.
    """
    halves: tuple[list[str], list[str]] = [], []
    for query in queries:
        halves[hashlib.sha256(f"{seed} {query}".encode()).digest()[0] % 2].append(query)
    return halves
