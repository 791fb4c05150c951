"""What each rank of a run last said of itself, in files that all ranks can read.

A rank that has died or hangs can tell nothing to the others through the connections between them.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sciembed_train.progress import duration
from sciembed_train.training.process_identity import Process

FOLDER = ".ranks"  # in the run's folder, as long as several ranks train


@dataclass(frozen=True)
class RankState:
    """One rank.

    Args:
        rank: its number.
        process: it is on this machine under this number.
        step: optimiser steps that it has made.
        in_step: whether it is making another one, and not validating, saving or reading data.
        seconds: since that began or ended.
        place: the line of code that its main thread was at.
        message: what it ended with; None as long as it runs.
    """

    rank: int
    process: Process
    step: int = 0
    in_step: bool = False
    seconds: float = 0.0
    place: str = ""
    message: str | None = None

    @property
    def position(self) -> tuple[int, bool]:
        """How far it has come: a larger one is further."""
        return self.step, self.in_step

    def name(self) -> str:
        """The rank and where it runs, for messages."""
        return f"rank {self.rank} (host {self.process.host}, pid {self.process.pid})"

    def doing(self) -> str:
        """Where it was when it last said so."""
        what = "making step" if self.in_step else "between steps, before step"
        return f"{what} {self.step + 1:,}" + (f", at {self.place}" if self.place else "")


class RankRecords:
    """The records of the ranks of one start of a run.

    Args:
        folder: the run's.
        key: of this start; records of another one are not read.
        world_size: number of ranks.
    """

    def __init__(self, folder: Path, key: str, world_size: int) -> None:
        self.folder, self.key, self.world_size = folder / FOLDER, key, world_size

    def _path(self, rank: int) -> Path:
        return self.folder / f"{self.key}-{rank}.json"

    def write(self, state: RankState) -> None:
        """Replace a rank's record, whole; its time is its sign of life.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(state.rank)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(state)), encoding="utf-8")
        os.replace(partial, path)

    def read(self, rank: int) -> tuple[RankState, int] | None:
        """A rank's record and its time (ns, of the file system); None where none can be read."""
        path = self._path(rank)
        try:
            time = path.stat().st_mtime_ns
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # never written, or a file system that is away
            return None
        return RankState(**{**values, "process": Process(**values["process"])}), time

    def others(self, rank: int) -> list[tuple[RankState, float]]:
        """The records of the other ranks, and seconds between their last sign of life and ours."""
        own = self.read(rank)
        read = [self.read(number) for number in range(self.world_size) if number != rank]
        now = own[1] if own is not None else 0
        return [(record[0], (now - record[1]) / 1e9) for record in read if record is not None]

    def end_all(self, reason: str) -> None:
        """Have every rank end, with a reason; also one that no other can reach."""
        with suppress(OSError):  # what matters is said on the terminal
            (self.folder / f"{self.key}.reason").write_text(reason, encoding="utf-8")

    def end_of_all(self) -> str | None:
        """Why all ranks are to end; None as long as none says so."""
        try:
            return (self.folder / f"{self.key}.reason").read_text(encoding="utf-8") or None
        except OSError:
            return None

    def remove(self) -> None:
        """Remove all records, of other starts too."""
        with suppress(OSError):
            shutil.rmtree(self.folder)


def ended(states: list[tuple[RankState, float]]) -> list[RankState]:
    """Those that have ended, first those that said why."""
    said = [state for state, _ in states if state.message is not None]
    dead = [state for state, _ in states if state.process.is_alive() is False]
    return [*said, *(state for state in dead if state not in said)]


def hanging(
    own: RankState, states: list[tuple[RankState, float]], limit: float, longest_step: float
) -> list[tuple[RankState, str]]:
    """The ranks that keep this one from going on, and why it is thought so.

    A rank hangs that has sent no sign of life for ``limit`` seconds: its process is stopped, or
    its machine is away. Where this rank has been making a step for ``limit`` seconds, and for
    three times its longest so far, those ranks hang that have not come as far; if all have, it may
    be any of them, this one too.
    """
    silent = [(state, age) for state, age in states if age > limit]
    if silent:
        return [(state, f"has sent no sign of life for {duration(age)}") for state, age in silent]
    if not own.in_step or own.seconds < max(limit, 3 * longest_step):
        return []
    waited = duration(own.seconds)
    behind = [state for state, _ in states if state.position < own.position]
    if behind:
        return [(state, f"has kept the others waiting for {waited}") for state in behind]
    all_of_them = [own, *(state for state, _ in states)]
    return [(state, f"has been in the same step for {waited}") for state in all_of_them]
