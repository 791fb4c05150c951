"""What a step's batch costs the loader, in a small corpus and in one a hundred times as large.

    python -m benchmarks.speed.loader                 # writes some 700 MB under a temporary folder
    python -m benchmarks.speed.loader --orders 6 100  # the order of an epoch of 6 and 100 million

Token stores of random ids are written as `prepare` writes them and read through memory maps, files
in the system's cache; batches are made by the samplings' own functions, in one process, without
workers. Sizes take turns. Time is that of the processor.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from benchmarks import command_line
from sciembed_train.batch import TokenRows
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.sampling.cocitations import CocitedPairs
from sciembed_train.sampling.plan import epoch_order
from sciembed_train.sampling.span_positions import Rule
from sciembed_train.sampling.span_slicing import span_batch
from sciembed_train.sampling.triplets import triplet_batch

LONGEST = 512


def write_store(folder: Path, texts: int, mean: int) -> TokenStore:
    """A store of random texts; lengths as of titles and abstracts, around a mean."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    sizes = generator.lognormal(np.log(mean) - 0.1, 0.45, texts).clip(8, 6 * mean).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    np.save(folder / "offsets.npy", offsets)
    with (folder / "00000.bin").open("wb") as file:
        for start in range(0, int(offsets[-1]), 2**24):
            count = min(2**24, int(offsets[-1]) - start)
            file.write(generator.integers(1000, 20000, count, dtype=np.uint16).tobytes())
    info = {
        "prefix": [2],
        "suffix": [3],
        "shard_papers": texts,
        "dtype": "uint16",
        "vocab_size": 20_000,
    }
    return TokenStore(folder, info)


def triplets(store: TokenStore, examples: int) -> Callable[[np.ndarray, int], Any]:
    """How a batch of triplets of a store is made."""
    table = np.random.default_rng(1).integers(0, len(store), (examples, 3), dtype=np.int32)
    return lambda chosen, step: triplet_batch(store, table, chosen, LONGEST, step)


def pairs(store: TokenStore, examples: int) -> Callable[[np.ndarray, int], Any]:
    """How a batch of pairs is made, and who of a step may meet whom."""
    table = np.random.default_rng(1).integers(0, len(store), (examples, 2), dtype=np.int64)
    low, high = table.min(1), table.max(1)
    known = np.unique(low * len(store) + high)
    corpus = SimpleNamespace(
        cocitations=lambda split: table,
        known_cocitations=lambda: known,
        n_papers=len(store),
        first_of_text=lambda: np.arange(len(store)),
    )
    met = CocitedPairs(cast(Any, corpus), "derangement", 0)

    def made(chosen: np.ndarray, step: int) -> Any:
        there = np.unique(met.step_pairs(chosen, 0, step).pairs)
        ids, lengths = store.rows(there, LONGEST)
        return SimpleNamespace(rows=TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)))

    return made


def spans(store: TokenStore, examples: int) -> Callable[[np.ndarray, int], Any]:
    """How a batch of spans of documents is made, nothing masked."""
    rule = Rule(1, 2, LONGEST, 32, "subsuming")
    long = np.flatnonzero(store.lengths >= 2 * LONGEST)
    return lambda chosen, step: span_batch(
        store, long[chosen % len(long)], rule, None, LONGEST - 2, key=(0, 0, 0), step=step
    )


KINDS = {
    "triplets": (triplets, 200, (10_000, 1_000_000), 3_000_000, 1024),
    "pairs": (pairs, 200, (10_000, 1_000_000), 1_000_000, 256),
    "spans": (spans, 1500, (2_000, 100_000), 100_000, 16),
}


def orders(millions: list[int]) -> None:
    """Print what the order of an epoch costs."""
    print("| examples | s an epoch | GB held |\n|---|---|---|")
    for million in millions:
        start = time.process_time()
        order = epoch_order(million * 10**6, 0, 0)
        seconds = time.process_time() - start
        print(f"| {million} million | {seconds:.2f} | {order.nbytes / 1e9:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--orders", type=int, nargs="*", default=[6])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    args = parser.parse_args()
    print("| examples | batch | texts of the corpus | ms a step | tokens a step | tokens/s |")
    print("|---|---|---|---|---|---|")
    for kind in args.kinds:
        way, mean, sizes, examples, batch = KINDS[kind]
        with tempfile.TemporaryDirectory() as folder:
            made = {}
            for size in sizes:
                made[size] = way(write_store(Path(folder) / str(size), size, mean), examples)
            order = epoch_order(examples, 0, 0)
            seconds: dict[int, list[float]] = {size: [] for size in sizes}
            tokens: dict[int, list[int]] = {size: [] for size in sizes}
            for step in range(args.rounds + 3):  # the first three warm up
                chosen = order[step * batch : (step + 1) * batch]
                for size in sizes:
                    start = time.process_time()
                    found = made[size](chosen, step)
                    seconds[size].append(time.process_time() - start)
                    tokens[size].append(found.rows.tokens)
            for size in sizes:
                took, held = seconds[size][3:], sum(tokens[size][3:])
                print(
                    f"| {kind} | {batch:,} | {size:,} | {1000 * statistics.median(took):.2f} | "
                    f"{held // len(took):,} | {held / sum(took) / 1e6:.0f} million |",
                    flush=True,
                )
    if args.orders:
        print()
        orders(args.orders)


if __name__ == "__main__":
    main()
