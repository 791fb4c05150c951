"""Triplet mining beside loops over queries in Python: one table.

    python -m benchmarks.speed.mining_loop [--papers 1000000] [--citations 10000000] [--rounds 3]

The graph is that of `benchmarks.speed.mining`. `mine_triplets` mines all queries, on ``--threads``
threads; the loops mine a sample of them on one, and what stands in the table is of one query. They
draw two triplets with a hard negative and three with an easy one, from sets of ids in memory:

``all papers``   as SPECTER's own sampler: easy negatives are drawn from a list of all papers that
                 are not related, which is made for each query (`docs/methods.md`)
``drawn again``  a paper is drawn until one is not related

Each round takes the three in turn. Loading what each needs is not counted for the loops, and is
counted for `mine_triplets`.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import command_line
from benchmarks.speed.mining import invent_citations
from sciembed_train.corpus.mining.triplet_mining import CitationGraph, TripletMining, mine_triplets
from sciembed_train.corpus.splits import assign_splits
from sciembed_train.corpus.sql_engine import running

Triple = tuple[int, int, int]


class Loop:
    """Mines one query after the other."""

    def __init__(self, citations: np.ndarray, papers: int) -> None:
        self.cited: dict[int, set[int]] = {}
        for citing, cited in citations.tolist():
            self.cited.setdefault(citing, set()).add(cited)
        self.papers = set(range(papers))

    def triplets(self, query: int, easy: Callable[[set[int]], int]) -> list[Triple]:
        """Five triplets; ``easy`` draws a paper that is not among the related ones."""
        positives = sorted(self.cited[query])
        hops: set[int] = set()
        for paper in positives:
            hops |= self.cited.get(paper, set())
        hard = sorted(hops - self.cited[query] - {query})
        if not hard:
            return []
        related = hops | self.cited[query] | {query}
        negatives = [random.choice(hard) for _ in range(2)] + [easy(related) for _ in range(3)]
        return [(query, random.choice(positives), negative) for negative in negatives]

    def all_papers(self, queries: Sequence[int]) -> None:
        """Easy negatives from a list of all others, made for each query."""
        for query in queries:
            others: list[int] = []

            def draw(related: set[int], others: list[int] = others) -> int:
                if not others:
                    others += list(self.papers - related)
                return random.choice(others)

            self.triplets(query, draw)

    def drawn_again(self, queries: Sequence[int]) -> None:
        """Easy negatives by drawing until one is not related."""
        count = len(self.papers)

        def draw(related: set[int]) -> int:
            while (paper := random.randrange(count)) in related:
                pass
            return paper

        for query in queries:
            self.triplets(query, draw)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--citations", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    keys = np.sort(invent_citations(args.papers, args.citations))
    citations = np.stack(np.divmod(keys, args.papers), axis=1).astype(np.int32)
    split = assign_splits([str(i) for i in range(args.papers)], 0, 0.05, 0.05)
    graph = CitationGraph(citations, np.ones(args.papers, bool), split)
    queries = np.unique(citations[:, 0])
    loop = Loop(citations, args.papers)
    random.seed(0)
    drawn = np.random.default_rng(0).permutation(queries).tolist()
    samples = {"all papers": (loop.all_papers, drawn[:50])}
    samples["drawn again"] = (loop.drawn_again, drawn[:20_000])

    print(f"{args.papers:,} papers, {len(citations):,} citations, {len(queries):,} queries")
    print("\n| round | mine_triplets | all papers | drawn again | ratios |\n|---|--:|--:|--:|---|")
    for number in range(args.rounds):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            with running(work, 1_700_000_000, args.threads) as engine:
                mine_triplets(engine, graph, TripletMining(), 0, 1_700_000_000, work / "units")
        each = [(time.monotonic() - begun) / len(queries)]
        for mine, sample in samples.values():
            begun = time.monotonic()
            mine(sample)
            each.append((time.monotonic() - begun) / len(sample))
        ours, *others = (seconds * 1e6 for seconds in each)
        ratios = ", ".join(f"{other / ours:.1f}" for other in others)
        times = " | ".join(f"{other:,.0f} us" for other in others)
        print(f"| {number} | {ours:,.0f} us | {times} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
