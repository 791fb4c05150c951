"""The folder of a run: its name, what may be in it, and the table of metrics."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.errors import UserError, why_no_file

# A folder that holds one of these is a run with something to lose. One that was stopped before its
# first checkpoint holds none and is begun again.
MARKS = ("last.ckpt", "best.ckpt", "export")


def root_folder(root: str | None = None) -> Path:
    """Where runs go: ``root``, else ``$SCIEMBED_CHECKPOINTS``, else ``checkpoints``."""
    return Path(root or os.environ.get("SCIEMBED_CHECKPOINTS") or "checkpoints")


def check_writable(folder: Path) -> None:
    """Raise UserError unless the folder can be written, or made.

    It is tried, not asked for: permissions do not tell of a read-only or full disk.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    probe = nearest / f".writable-{os.getpid()}"
    with writing_errors(folder):
        probe.write_bytes(b"")
        probe.unlink()


@contextmanager
def writing_errors(folder: Path) -> Iterator[None]:
    """Raise the system's errors as a UserError that names the folder."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f" ({error.filename})"
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}{place}. Give --root a folder "
            "that can, or set SCIEMBED_CHECKPOINTS."
        ) from error


def find_start(folder: Path, ckpt_path: str | None) -> Path | None:
    """The checkpoint to continue from, or None for a new run.

    Raises:
        UserError: the run exists and is not to be continued, or the checkpoint does not.
    """
    if ckpt_path is None:
        if any((folder / mark).exists() for mark in MARKS):
            raise UserError(
                f"The run {folder} exists. Continue it with --ckpt_path last, or start another "
                "with --run NAME."
            )
        return None
    path = folder / "last.ckpt" if ckpt_path == "last" else Path(ckpt_path).expanduser()
    if path.is_dir():
        path = path / "last.ckpt"
    if path.exists() and not path.is_file():
        raise UserError(f"--ckpt_path {ckpt_path}: {why_no_file(path, 'checkpoint')}.")
    if not path.is_file():
        other = sorted(str(p) for p in folder.glob("*.ckpt")) if folder.is_dir() else []
        hint = f"There is {', '.join(other)}." if other else "Leave --ckpt_path out to start anew."
        raise UserError(f"--ckpt_path {ckpt_path}: there is no {path}. {hint}")
    return path


class MetricsCsv(Logger):
    """``metrics.csv``: one row for each report, by optimiser steps made, kept over a resume.

    Lightning's own CSV logger deletes the file of the run that is being continued.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """The name that Lightning asks a logger for."""
        return "metrics"

    @property
    def version(self) -> str:
        """The version that Lightning asks a logger for."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; the file is complete after each."""
        row = {"step": str(step), **{key: repr(float(value)) for key, value in metrics.items()}}
        header = self._header()
        if not set(row) <= set(header):
            rows = self.rows()
            header = [*header, *(key for key in row if key not in header)]
            self._write(header, rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, header, restval="").writerow(row)

    @rank_zero_only
    def keep_until(self, step: int) -> None:
        """Drop what was logged after a checkpoint: the continued run logs it again."""
        if self.path.is_file():
            self._write(self._header(), [row for row in self.rows() if int(row["step"]) <= step])

    def rows(self) -> list[dict[str, str]]:
        """Every whole row; a last line that a killed process left unfinished is no row."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [row for row in csv.DictReader(lines) if row["step"]]

    def _header(self) -> list[str]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _write(self, header: list[str], rows: list[dict[str, str]]) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, restval="")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)
