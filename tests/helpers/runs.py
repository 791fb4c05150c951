"""Runs on a tiny model and corpus, in this process or through the real command line."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pytorch_lightning import Callback

from sciembed_train.errors import UserError
from sciembed_train.training.callbacks.signals import Signals

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
STEPS_PER_EPOCH, STEPS = 12, 48


class StopAt(Callback):
    """As if a signal came while a step was being made."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step - 1:
            signals = next(own for own in trainer.callbacks if isinstance(own, Signals))
            signals.received = int(signal.SIGTERM)


class EndAt(Callback):
    """As ``trainer.max_time`` does: the run ends after a step, before its length is made."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.should_stop = True


class DieAt(Callback):
    """SIGKILL to this process (and only to it) after a step, before anything is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def arguments(root: Path, corpus: Path, backbone: Path, *more: str) -> list[str]:
    """Four epochs of twelve steps with dropout, a validation every ten steps."""
    return [
        *("-c", str(ROOT / "configs" / "specter.yaml")),
        *("--root", str(root)),
        *("--data.corpus", str(corpus)),
        *("--model.encoder.backbone", str(backbone)),
        *("--model.encoder.max_length", "64"),
        *("--model.optim.lr", "1e-3"),
        *("--data.batch_size", "8"),
        *("--trainer.max_epochs", "4"),
        *("--trainer.accelerator", "cpu"),
        *("--trainer.precision", "32-true"),
        *("--trainer.devices", "1"),
        *("--trainer.val_check_interval", "10"),
        *("--trainer.log_every_n_steps", "1"),
        *("--checkpoint.every", "7", "--verdict", "off"),
        "--no_export",
        "--quiet",
        *more,
    ]


def start(*words: str) -> subprocess.Popen:
    """The real command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen, timeout: float = 180) -> tuple[int, str]:
    """Exit code and everything said; whatever is left of the group is ended."""
    try:
        said, _ = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def wait_for_step(process: subprocess.Popen, run: Path, step: int, seconds: float = 180) -> None:
    """Return when the run has logged a step."""
    end = time.monotonic() + seconds
    while not any(int(row["step"]) >= step for row in rows(run)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the run never came to that step"
        time.sleep(0.02)


def rows(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["step"] and None not in row.values()]


def losses(run: Path) -> dict[int, str]:
    """The training loss of each step, to the last bit; a step logged twice is an error."""
    found: dict[int, str] = {}
    for row in rows(run):
        if row["train/loss"]:
            assert int(row["step"]) not in found, f"step {row['step']} stands twice"
            found[int(row["step"])] = row["train/loss"]
    return found


def validations(run: Path) -> dict[int, tuple[str, str]]:
    """Loss and MRR of each validation."""
    found: dict[int, tuple[str, str]] = {}
    for row in rows(run):
        if row["val/loss"]:
            assert int(row["step"]) not in found, f"validation {row['step']} stands twice"
            found[int(row["step"])] = (row["val/loss"], row["val/mrr"])
    return found


class FailAt(Callback):
    """A defect on one rank when a step begins, while the others wait for it."""

    def __init__(self, rank: int, step: int, how: str) -> None:
        self.rank, self.step, self.how = rank, step, how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.global_rank, trainer.global_step) != (self.rank, self.step):
            return
        if self.how == "raise":
            raise ValueError("this rank fails")
        if self.how == "refuse":
            raise UserError("this file is damaged")
        if self.how == "sleep":
            time.sleep(1000)
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[self.how])
