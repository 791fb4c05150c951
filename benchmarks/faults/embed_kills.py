"""Kill ``embed`` at random moments while it writes shards: is a vector missing, or there twice?

    python -m benchmarks.faults.embed_kills --to FOLDER [--papers 1000000] [--kills 5]

Synthetic papers are embedded by an untrained BERT of one layer, 32 wide. The process gets SIGKILL
a random time after it has written a random number of shards, and the same command is started again,
until there were so many kills; the last one ends by itself. Then every shard is read: the ids must
be those of the input in its order, no vector may be all zeros, and those of `SAMPLE` papers must be
what the encoder gives for their texts alone. A fault is named and ends the script with code 1.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks import command_line

SAMPLE, WITHIN = 2000, 3.0  # papers embedded again; seconds after a shard in which a kill comes
WORDS = [f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me", "ra") for b in ("n", "ra", "sti", "l")]


def papers(count: int) -> Iterator[dict[str, str]]:
    """The papers, whose ids are in no order and whose texts differ."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(count)
    for start in range(0, count, 10_000):
        here = min(10_000, count - start)
        words = rng.integers(0, len(WORDS), (here, 24))
        for row, number in zip(words, numbers[start : start + here].tolist(), strict=True):
            drawn = [WORDS[word] for word in row]
            title, abstract = " ".join([*drawn[:6], str(number)]), " ".join(drawn[6:])
            yield {"paper_id": f"W{number}", "title": title, "abstract": abstract}


def write(folder: Path, count: int) -> tuple[Path, Path]:
    """The file of papers and the model, in a folder."""
    from sciembed_train.synthetic import train_tokenizer, write_bert

    source = folder / "papers.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for paper in papers(count):
            file.write(json.dumps(paper) + "\n")
    texts = [f"{p['title']} {p['abstract']}" for p in islice(papers(count), 2000)]
    write_bert(folder / "model", train_tokenizer(texts, 300), layers=1, width=32, heads=2)
    return source, folder / "model"


def shards(folder: Path) -> int:
    """How many shards are whole."""
    return len(list(folder.glob("part-*.json")))


def main() -> int:
    """Make the runs, check the folder and print what was found."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--shard_size", type=int, default=None, help="a fiftieth by default")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.to.mkdir(parents=True)
    source, model = write(asked.to, asked.papers)
    size = asked.shard_size or -(-asked.papers // 50)
    total, vectors = -(-asked.papers // size), asked.to / "vectors"
    rng = np.random.default_rng(asked.seed)
    words = ["embed", "--model", model, "--input", source, "--to", vectors, "--device", "cpu"]
    command = [sys.executable, "-m", "sciembed_train.cli", *map(str, words)]
    command += ["--shard_size", str(size), "--quiet"]
    started, killed_at = time.monotonic(), []
    for target in sorted(rng.choice(total, asked.kills, replace=False).tolist()):
        process = subprocess.Popen(command)
        while shards(vectors) < target and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, WITHIN))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed_at.append(shards(vectors))
        process.wait()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    faults = check(vectors, source, model, asked.papers)
    print("| papers | shards | kills | shards that were whole at each | seconds in all | faults |")
    print("|---|---|---|---|---|---|")
    at = ", ".join(map(str, killed_at))
    print(
        f"| {asked.papers:,} | {total} | {len(killed_at)} | {at} | {seconds:.0f} | {len(faults)} |"
    )
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores.")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or len(killed_at) < asked.kills else 0


def check(vectors: Path, source: Path, model: Path, count: int) -> list[str]:
    """What is wrong with a folder of shards."""
    import sciembed_train as st
    from sciembed_train.inference.vector_files import VectorFiles

    stored, faults = VectorFiles.open(vectors), []
    if list(stored.ids()) != [paper["paper_id"] for paper in papers(count)]:
        faults.append("the ids are not those of the input in its order")
    zeros = sum(int((~block.any(1)).sum()) for block in stored.blocks(2**14))
    if zeros:
        faults.append(f"{zeros} vectors are all zeros")
    drawn = np.sort(np.random.default_rng(1).choice(count, min(SAMPLE, count), replace=False))
    with source.open(encoding="utf-8") as lines:
        wanted = set(drawn.tolist())
        texts = [json.loads(line) for number, line in enumerate(lines) if number in wanted]
    again = st.load_encoder(model, device="cpu").encode(texts)
    difference = float(np.abs(stored.rows(drawn) - np.asarray(again)).max())
    if not difference < 1e-5:
        faults.append(f"vectors of {len(drawn)} papers differ by {difference:.1e}")
    return faults + [f"left behind: {path.name}" for path in vectors.glob(".part-*")]


if __name__ == "__main__":
    sys.exit(main())
