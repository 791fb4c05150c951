"""Time and memory of preparing a task of which a sample is drawn: one table.

    python -m benchmarks.speed.task_preparation [--records 30000 300000] [--sample 10000]

The records are invented: texts of 160 words, one a labelled record and three a triplet. Preparing
(without a tokenizer) runs in a process of its own, whose CPU time and peak resident memory are read
from the system. Memory should grow with the sample and not with the records.
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
from typing import Any

import numpy as np

from benchmarks import command_line

KINDS = ("regression", "classification", "triplet")
CLASSES = 30


def write_task(folder: Path, kind: str, records: int, sample: int) -> None:
    """A list of one task, and its records."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(5_000)])

    def paper() -> dict[str, Any]:
        words = vocabulary[rng.integers(0, len(vocabulary), 160)]
        return {"title": " ".join(words[:10]), "abstract": " ".join(words[10:])}

    task: dict[str, Any] = {"name": "task", "type": kind, "data_files": {"train": "task.jsonl"}}
    task |= {"sample_size": {"train": sample, "dev": sample // 10}}
    if kind == "classification":
        task["labels"] = [f"class {i}" for i in range(CLASSES)]
    (folder / "tasks.json").write_text(json.dumps([task]))
    with (folder / "task.jsonl").open("w") as file:
        for _ in range(records):
            if kind == "triplet":
                row: dict[str, Any] = {"query": paper(), "pos": paper(), "neg": paper()}
            else:
                number = rng.random()
                label = f"class {int(CLASSES * number**2)}" if task.get("labels") else number
                row = {**paper(), "label": label}
            file.write(json.dumps(row) + "\n")


def run_prepare(folder: Path) -> None:
    """The measured process: prepares, and prints what it took as JSON."""
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings

    started = time.monotonic()
    corpus = prepare(PrepareSettings(tasks=folder, to=folder / "corpus"))
    told = {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "examples": corpus.info["counts"]["tasks"]["task"],
    }
    print(json.dumps(told))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measured:
        run_prepare(args.measured)
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| task | records | train, dev | s | CPU s | records/CPU s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for kind in args.kinds:
        for records in args.records:
            with tempfile.TemporaryDirectory() as name:
                write_task(Path(name), kind, records, args.sample)
                command = [sys.executable, "-m", __spec__.name, "--measured", name]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                told = json.loads(done.stdout)
            drawn = f"{told['examples']['train']:,}, {told['examples']['dev']:,}"
            rate = records / told["cpu"]
            print(f"| {kind} | {records:,} | {drawn} | {told['seconds']:.1f} ", end="")
            print(f"| {told['cpu']:.1f} | {rate:,.0f} | {told['peak'] / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
