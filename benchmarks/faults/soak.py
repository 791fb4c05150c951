"""Does the memory of a long training run grow?

    python -m benchmarks.faults.soak --to FOLDER [--steps 2000] [--recipe specter] [--width 128]

Trains an untrained BERT on a synthetic collection in a process of its own and reads at the end of
every 50 steps that process's resident memory, from ``/proc``, and what of it the program has asked
for and not given back, from glibc's ``mallinfo2``; the rest is what glibc keeps for later, and
files. Prints both at some of the steps, and how much the largest of all steps from step 200 on is
above that of step 200. Environment variables given to this script, such as MALLOC_ARENA_MAX, are
the run's.
"""

from __future__ import annotations

import csv
import ctypes
import os
import subprocess
import sys
from pathlib import Path

from pytorch_lightning import Callback

from benchmarks import command_line
from benchmarks.faults.kills import METHODS, collection, data_of

EVERY, FROM = 50, 200  # steps


class Memory(Callback):
    """Writes the process's memory, resident and in use (MB), of every so many steps to a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Add a line."""
        if trainer.global_step % EVERY == 0:
            with open(self.file, "a") as file:
                file.write(f"{trainer.global_step},{resident():.1f},{in_use():.1f}\n")


def resident() -> float:
    """This process's resident memory, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def in_use() -> float:
    """What this process has asked glibc for and not given back, in MB."""
    mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo2.restype = _MallInfo
    info = mallinfo2()
    return (info.uordblks + info.hblkhd) / 1e6


def main() -> None:
    """See the module."""
    parser = command_line.parser(__doc__)
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
        rows = [(int(step), float(rss), float(used)) for step, rss, used in csv.reader(file)]
    memory = {step: rss for step, rss, _ in rows}
    used = {step: megabytes for step, _, megabytes in rows}
    shown = [step for step in memory if step in (50, 100, FROM) or step % 400 == 0]
    print("| step | " + " | ".join(f"{step:,}" for step in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for name, column in (("resident, MB", memory), ("in use, MB", used)):
        print(f"| {name} | " + " | ".join(f"{column[step]:.1f}" for step in shown) + " |")
    for name, column in (("resident", memory), ("in use", used)):
        largest = max(value for step, value in column.items() if step >= FROM)
        print(f"\n{name}, largest from step {FROM} on: {largest / column[FROM] - 1:+.1%}")


if __name__ == "__main__":
    main()
