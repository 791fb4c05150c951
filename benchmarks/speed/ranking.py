"""A million papers ranked for a thousand queries: time of a core, and memory.

Random unit vectors, the queries among the papers, with so many judged papers each. Distances by
products of matrices where these decide (`evaluation.distances`, what benchmarks use), beside
distances by differences alone, a block of queries in turn, and what comes of both is compared.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.ranking [--papers 1000000] [--queries 1000]
        [--width 384] [--judged 20] [--differences 33]

Times are of the processor, of one thread, so that other work beside it counts little; memory is the
most that the process held, its libraries and the vectors included, measured before the differences.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

from benchmarks import command_line
from sciembed_train.evaluation.distances import distance_rows, to_unit
from sciembed_train.evaluation.metrics import Places
from sciembed_train.evaluation.ranking import judged as scores_of
from sciembed_train.evaluation.ranking import rank_judged


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--judged", type=int, default=20)
    parser.add_argument("--differences", type=int, default=33, help="queries by differences alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    papers = np.empty((args.papers, args.width), dtype=np.float32)
    for left in range(0, args.papers, 2**16):
        part = papers[left : left + 2**16]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    to_unit(papers)
    asked = rng.choice(args.papers, args.queries, replace=False)
    queries = papers[asked]
    judged = [np.setdiff1d(rng.integers(0, args.papers, args.judged), [query]) for query in asked]
    fast = timed(papers, queries, asked, judged)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory {peak / 2**30:.2f} GiB", flush=True)
    few = slice(0, args.differences)
    slow = timed(papers, queries[few], asked[few], None, judged[few])
    for one, other in zip(fast, slow, strict=False):
        np.testing.assert_array_equal(one.first, other.first)
        np.testing.assert_array_equal(one.size, other.size)
    print(f"the same places in all {len(slow)} rankings")


def timed(papers, queries, asked, judged, wanted=None) -> list[Places]:
    """The places of the judged papers of each query; prints what a query took."""
    wanted = judged if wanted is None else wanted
    rows = distance_rows(queries, papers, judged=judged and judged.__getitem__)
    places, distances, ranking = [], 0.0, 0.0
    for own, some in zip(asked, wanted, strict=True):
        start = time.process_time()
        row = next(rows)
        between = time.process_time()
        ranked = rank_judged(row, some, np.ones(len(some), dtype=np.int64), None, int(own))
        scores_of(ranked)
        distances += between - start
        ranking += time.process_time() - between
        assert ranked.places is not None
        places.append(ranked.places)
    way = "differences" if judged is None else "products"
    total, number = distances + ranking, len(places)
    print(
        f"{way}: {number:,} queries, {total:.1f} s of a core; "
        f"a query {total / number * 1e3:.1f} ms "
        f"(distances {distances / number * 1e3:.1f}, ranking {ranking / number * 1e3:.1f})",
        flush=True,
    )
    return places


if __name__ == "__main__":
    main()
