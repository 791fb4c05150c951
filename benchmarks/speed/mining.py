"""Time and memory of preparing a large invented corpus: one table.

    python -m benchmarks.speed.mining [--papers 1000000] [--citations 10000000] [--tokenizer FOLDER]

The graph is invented: topics of very unequal size, numbers of references with a heavy tail, most
references inside the topic, all to earlier papers, popular ones far more often. Preparing runs in
a process of its own, whose peak resident memory (database included: it is in that process) is
read from the system.
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


def invent_citations(n: int, wanted: int, seed: int = 0) -> np.ndarray:
    """At most ``wanted`` distinct citations of ``n`` papers, ``[E, 2]``, to earlier papers."""
    rng = np.random.default_rng(seed)
    topics = max(n // 500, 1)
    share = 1 / np.arange(1, topics + 1) ** 0.8
    topic = rng.choice(topics, n, p=share / share.sum())
    degree = rng.lognormal(0, 0.9, n)
    degree = np.minimum(
        (degree * 1.2 * wanted / degree.sum() + rng.random(n)).astype(np.int64), 400
    )
    citing = np.repeat(np.arange(n), degree)
    # A popular paper is one whose place among the earlier ones is low: u^3 piles up near 0.
    popular = rng.random(len(citing)) ** 3
    members = np.argsort(topic, kind="stable")
    starts = np.searchsorted(topic[members], np.arange(topics))
    place = np.empty(n, np.int64)
    place[members] = np.arange(n) - starts[topic[members]]
    inside = rng.random(len(citing)) < 0.75
    earlier = np.where(inside, place[citing], citing)
    chosen = (popular * earlier).astype(np.int64)
    cited = np.where(inside, members[np.minimum(starts[topic[citing]] + chosen, n - 1)], chosen)
    pairs = np.unique((citing * n + cited)[(earlier > 0) & (cited != citing)])
    pairs = rng.permutation(pairs)[:wanted]
    return np.stack([pairs // n, pairs % n], axis=1)


def write_inputs(folder: Path, n: int, wanted: int, words: int) -> tuple[Path, Path]:
    """Files of invented papers and citations, in no order."""
    rng = np.random.default_rng(1)
    pairs = invent_citations(n, wanted)
    names = np.array([f"P{number:08d}" for number in rng.permutation(10 * n)[:n]])
    citations = folder / "citations.tsv"
    with citations.open("w", encoding="utf-8") as file:
        file.write("citing\tcited\n")
        for start in range(0, len(pairs), 500_000):
            part = names[pairs[start : start + 500_000]]
            file.write("".join(f"{a}\t{b}\n" for a, b in part.tolist()))
    consonants, vowels = list("bcdfglmnprstv"), list("aeiou")
    syllables = [c + v for c in consonants for v in vowels]
    vocabulary = ["".join(rng.choice(syllables, k)) for k in rng.integers(2, 5, 20_000)]
    papers = folder / "papers.jsonl"
    with papers.open("w", encoding="utf-8") as file:
        for start in range(0, n, 10_000):
            count = min(10_000, n - start)
            drawn = (rng.random((count, words + 8)) ** 2 * len(vocabulary)).astype(int).tolist()
            for i, row in enumerate(drawn):
                text = [vocabulary[w] for w in row]
                record = {
                    "paper_id": str(names[start + i]),
                    "title": " ".join(text[:8]),
                    "abstract": " ".join(text[8:]),
                }
                file.write(json.dumps(record) + "\n")
    return papers, citations


def run_prepare(arguments: dict) -> None:
    """The measured process: prepares, and prints what it took as JSON."""
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings
    from sciembed_train.progress import Progress

    progress = Progress()
    started = time.monotonic()
    corpus = prepare(PrepareSettings(**arguments), progress)
    told = {
        "seconds": progress.seconds | {"all": time.monotonic() - started},
        "cpu": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "counts": corpus.info["counts"],
        "tokens": sum(store["tokens"] for store in corpus.info["token_stores"].values()),
    }
    print(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--citations", type=int, default=10_000_000)
    parser.add_argument("--words", type=int, default=60, help="of an abstract")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokenizer", help="also tokenise the texts with this")
    parser.add_argument("--measured", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measured:
        run_prepare(json.loads(args.measured))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        papers, citations = write_inputs(folder, args.papers, args.citations, args.words)
        sizes = papers.stat().st_size / 1e6, citations.stat().st_size / 1e6
        arguments = {
            "papers": str(papers),
            "citations": str(citations),
            "to": str(folder / "corpus"),
            "memory": args.memory,
            "threads": args.threads,
            "tokenizer": args.tokenizer,
        }
        command = [sys.executable, "-m", __spec__.name, "--measured", json.dumps(arguments)]
        # With the terminal's error stream the child says how far it is.
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        told = json.loads(done.stdout)
    import duckdb

    counts = told["counts"]
    print(f"papers {counts['papers']:,} ({sizes[0]:.0f} MB), ", end="")
    print(f"citations {counts['citations']:,} ({sizes[1]:.0f} MB), memory {args.memory}; ", end="")
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, ", end="")
    print(f"{os.cpu_count()} cores")
    print("\n| stage | seconds |\n|---|---|")
    for stage, seconds in told["seconds"].items():
        print(f"| {stage} | {seconds:.1f} |")
    total = sum(counts["triplets"].values())
    print(f"\n{total:,} triplets, {sum(counts['hard'].values()):,} with a hard negative; ", end="")
    print(f"{told['tokens']:,} tokens; ", end="")
    print(f"{told['cpu']:.0f} CPU seconds; peak memory {told['peak'] / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
