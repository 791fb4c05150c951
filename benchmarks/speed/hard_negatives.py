"""Time and memory of mining hard negatives of a large synthetic corpus with stored vectors.

    python -m benchmarks.speed.hard_negatives [--papers 1000000] [--queries 100000] [--threads 1]

The papers lie in topics, about 200 in each: a paper's vector is its topic's and noise, three
quarters of the citations stay within the topic, and popular papers are cited far more often. The
papers that are no queries are held out. `mine` runs in a process of its own, whose peak resident
memory and processor time are read from the system. The products of the first block alone are
timed before and after, so that the table says how much mining adds to them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import command_line

IN_TOPIC = 200  # papers
NOISE = 1.0  # length of the noise, of a topic's vector 1
ROWS = 50_000  # vectors made at once


def write_corpus(folder: Path, papers: int, queries: int, citations: int) -> np.ndarray:
    """A corpus folder of papers, citations and splits; returns the topic of each paper."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sciembed_train.corpus.store.corpus_files import (
        CORPUS_VERSION,
        save_first_of_text,
        save_info,
        save_paper_splits,
    )

    rng = np.random.default_rng(0)
    topics = max(1, papers // IN_TOPIC)
    topic = rng.integers(0, topics, papers)
    members = np.argsort(topic, kind="stable")
    starts, sizes = np.searchsorted(topic[members], np.arange(topics)), np.bincount(topic)
    citing = rng.integers(0, papers, citations)
    popular = rng.random(citations) ** 3
    within = rng.random(citations) < 0.75
    place = starts[topic[citing]] + (popular * sizes[topic[citing]]).astype(np.int64)
    cited = np.where(within, members[place], (popular * papers).astype(np.int64))
    keys = np.unique(citing * papers + cited)
    pairs = np.stack(np.divmod(keys[keys // papers != keys % papers], papers), axis=1)
    folder.mkdir(parents=True)
    np.save(folder / "citations.npy", pairs.astype(np.int32))
    split = np.full(papers, 2, np.int8)
    split[rng.choice(np.unique(pairs[:, 0]), queries, replace=False)] = 0
    save_paper_splits(folder, split)
    save_first_of_text(folder, np.arange(papers, dtype=np.int32))
    numbers = np.arange(papers, dtype=np.int32)
    columns = {
        "paper": pa.array(numbers),
        "paper_id": pa.array([f"P{number:08d}" for number in range(papers)]),
        "title": pa.array([f"A paper of topic {t}, number {n}" for n, t in enumerate(topic)]),
        "abstract": pa.array([f"The abstract of paper {n}." for n in range(papers)]),
        "sentences": pa.nulls(papers, pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), folder / "papers.parquet", compression="zstd")
    save_info(folder, {"version": CORPUS_VERSION, "sources": [], "counts": {"papers": papers}})
    return topic


def write_vectors(path: Path, topic: np.ndarray, width: int) -> None:
    """A vector of each paper, float32, near those of its topic."""
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(int(topic.max()) + 1, width)).astype(np.float32)
    shape = (len(topic), width)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, len(topic), ROWS):
        part = centers[topic[start : start + ROWS]]
        vectors[start : start + ROWS] = part + NOISE * rng.standard_normal(part.shape, np.float32)
    vectors.flush()
    with path.with_suffix(".ids.txt").open("w") as file:
        file.writelines(f"P{number:08d}\n" for number in range(len(topic)))


def products(path: Path, block: int, tile: int) -> float:
    """Processor seconds of one block's products alone, over all papers."""
    import torch

    vectors = np.load(path, mmap_mode="r")
    left = torch.from_numpy(np.array(vectors[:block]))
    scores = torch.empty((len(left), tile))
    taken = 0.0
    for start in range(0, len(vectors) - tile + 1, tile):
        right = torch.from_numpy(np.array(vectors[start : start + tile]))
        before = time.process_time()
        torch.mm(left, right.T, out=scores)
        taken += time.process_time() - before
    return taken * len(vectors) / (len(vectors) // tile * tile)


def run_mine(arguments: dict) -> None:
    """The measured process: mines, and prints what it took as JSON."""
    import torch

    torch.set_num_threads(arguments.pop("threads"))
    import sciembed_train as st

    started = time.monotonic()
    mined = st.mine(**arguments, progress=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time(),
        "peak": used.ru_maxrss * 1024,
        "table": mined.summary.table(),
    }
    print(json.dumps(facts))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--citations", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measured", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measured:
        run_mine(json.loads(args.measured))
        return
    import torch

    from sciembed_train.hard_negatives.block import TILE
    from sciembed_train.hard_negatives.mine_settings import MineSettings

    torch.set_num_threads(args.threads)
    block = min(MineSettings.queries_at_once, args.queries)
    with tempfile.TemporaryDirectory() as name:
        corpus, vectors = Path(name) / "corpus", Path(name) / "vectors.npy"
        topic = write_corpus(corpus, args.papers, args.queries, args.citations)
        write_vectors(vectors, topic, args.width)
        tile = min(TILE, args.papers)
        before = products(vectors, block, tile)
        arguments = {"corpus": str(corpus), "vectors": str(vectors), "threads": args.threads}
        command = [sys.executable, "-m", __spec__.name, "--measured", json.dumps(arguments)]
        # With the terminal's error stream the child says how far it is.
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        facts = json.loads(done.stdout)
        after = products(vectors, block, tile)
    alone = [seconds * args.queries / block for seconds in (before, after)]
    print(f"Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"numpy {np.__version__}; {os.cpu_count()} cores, {args.threads} of them used\n")
    print("| queries | papers | width | wall, s | processor, s | products alone, s | peak, GB |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {args.queries:,} | {args.papers:,} | {args.width} | {facts['seconds']:.0f} | ", end=""
    )
    print(f"{facts['cpu']:.0f} | {min(alone):.0f} to {max(alone):.0f} | ", end="")
    print(f"{facts['peak'] / 1e9:.2f} |\n\n```\n{facts['table']}\n```")


if __name__ == "__main__":
    main()
