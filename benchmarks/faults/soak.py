"""Does the memory of a long training run grow?

    python -m benchmarks.faults.soak --to FOLDER [--steps 2000] [--recipe specter] [--width 128]

Trains an untrained BERT on a synthetic collection in a process of its own and reads that process's
resident memory from ``/proc`` at the end of every 50 steps. Prints the memory at some of
them, and how much the largest of all steps from step 200 on is above that of step 200. Environment
variables given to this script, such as MALLOC_ARENA_MAX, are the run's.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

from pytorch_lightning import Callback

from benchmarks.faults.kills import METHODS, collection, data_of

EVERY, FROM = 50, 200  # steps


class Memory(Callback):
    """Writes the process's resident memory (MB) of every so many steps into a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Add a line."""
        if trainer.global_step % EVERY == 0:
            with open(self.file, "a") as file:
                file.write(f"{trainer.global_step},{resident():.1f}\n")


def resident() -> float:
    """This process's resident memory, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--recipe", default="specter", choices=list(METHODS))
    parser.add_argument("--width", type=int, default=128, help="of the encoder's four layers")
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    args.to.mkdir(parents=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    files = collection(args.to, layers=4, width=args.width)
    table = args.to / "memory.csv"
    words = [
        *(sys.executable, "-m", "sciembed_train.cli", "fit", *METHODS[args.recipe]),
        *data_of(args.recipe, files),
        *("--model.encoder.backbone", str(files["backbone"]), "--model.encoder.max_length", "256"),
        *("--data.batch_size", str(args.batch_size), "--trainer.max_epochs", "-1"),
        *("--trainer.max_steps", str(args.steps), "--trainer.val_check_interval", "500"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--verdict", "off"),
        *("--checkpoint.every", "500", "--no_export", "--root", str(args.to), "--run", "run"),
        *("--trainer.callbacks", "benchmarks.faults.soak.Memory"),
        *("--trainer.callbacks.file", str(table)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    with table.open() as file:
        memory = {int(step): float(megabytes) for step, megabytes in csv.reader(file)}
    shown = [step for step in memory if step in (50, 100, FROM) or step % 400 == 0]
    print("| step | " + " | ".join(f"{step:,}" for step in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    print("| MB | " + " | ".join(f"{memory[step]:.0f}" for step in shown) + " |")
    largest = max(value for step, value in memory.items() if step >= FROM)
    print(f"\nlargest from step {FROM} on: {largest / memory[FROM] - 1:+.1%} of step {FROM}'s")


if __name__ == "__main__":
    main()
