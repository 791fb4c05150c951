"""Ranks watch one another: if one dies or hangs, the run names it and ends.

Without it a dead rank shows as a lost connection in all the others, and a hanging one not at all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from sciembed_train import distributed
from sciembed_train.config.program import as_called, program
from sciembed_train.errors import RunError, UserError, one_line
from sciembed_train.progress import print_line
from sciembed_train.training.checkpoint_io import kept
from sciembed_train.training.process_identity import Process
from sciembed_train.training.rank_records import RankRecords, RankState, ended, hanging

BEAT = 10.0  # seconds between two records of a rank, at most
WAIT = 15.0  # seconds that a rank looks for the reason of a lost connection
GRACE = 20.0  # seconds that the main thread has to end by itself
EARLY = 3.0  # the same before the ranks are connected, when nothing ends its wait
SETTLE = 0.5  # seconds between the sight of a dead rank and a last look


class RankWatch:
    """Writes this rank's record, reads those of the others, and ends the run where one hangs.

    A thread does it, since the main thread of every other rank waits for the one that hangs.

    Args:
        folder: the run's; None of a validation, whose ranks write no records.
        timeout: seconds after which a rank hangs (`rank_records.hanging`); None for no limit.
    """

    def __init__(self, folder: Path | None, timeout: float | None) -> None:
        self.folder, self.timeout = folder, timeout
        self.reason: str | None = None  # why the run ends, where another rank is the cause
        self.give_up: Callable[[], None] = lambda: None  # before an end without the main thread
        self._exit_codes: dict[int, int] = {}  # of ranks that this process has started
        self._records: RankRecords | None = None
        self._state = RankState(0, Process.this())
        self._since = time.monotonic()
        self._longest = 0.0
        self._ended = threading.Event()
        self._main = threading.get_ident()
        self._writing = threading.Lock()
        self._telling: bool | None = None  # whether this rank prints the reason; None: not known

    @property
    def beat(self) -> float:
        """Seconds between two records of this rank."""
        return BEAT if self.timeout is None else min(BEAT, self.timeout / 4)

    def start(self) -> None:
        """Start watching, on every rank, once they are connected; one process alone does not."""
        if self.folder is None or distributed.world_size() == 1 or self._records is not None:
            return
        key = distributed.of_all_ranks(os.urandom(8).hex())[0]
        self._state = replace(self._state, rank=distributed.rank())
        self._records = RankRecords(self.folder, key, distributed.world_size())
        self._write()
        distributed.barrier()  # now every record is there
        threading.Thread(target=self._watch, name="watch of the ranks", daemon=True).start()

    def step_began(self, made: int) -> None:
        """Record that a step begins, after ``made`` others."""
        self._state = replace(self._state, step=made, in_step=True)
        self._since = time.monotonic()

    def step_ended(self, made: int) -> None:
        """Record that the step has ended, and how many are ``made`` now."""
        self._longest = max(self._longest, time.monotonic() - self._since)
        self._state = replace(self._state, step=made, in_step=False)
        self._since = time.monotonic()

    def stop(self) -> None:
        """Stop watching; the first rank removes the records once all ranks have stopped."""
        if self._records is not None and not self._ended.is_set():
            distributed.barrier()
            self._ended.set()
            if self._state.rank == 0:
                self._records.remove()

    def failed(self, error: BaseException) -> None:
        """An exception ends this rank: tell the others, or find out which of them was the cause.

        It is another's fault where a connection was lost. `reason` then says which rank's, and
        the first rank that still lives prints it, at once: a launcher may end it any moment.
        """
        if not distributed.lost_connection(error):
            if self._records is not None:
                with contextlib.suppress(OSError):  # the error itself is what must be seen
                    self._write(message=_message(error))
        elif self.reason is None:
            self.reason = self._find_reason()
            self._tell()
        self._ended.set()

    def child_ended(self, rank: int, code: int) -> None:
        """Handle a rank that this process started and that ended too early, with this exit code."""
        self._exit_codes[rank] = code
        if not self._ended.wait(WAIT + GRACE if distributed.connected() else EARLY):
            told = "; what it printed stands above" if code > 0 else ""
            self.reason = self.reason or f"rank {rank} ended, {self._how(rank)}{told}."
            self._leave(max(code, 1))

    def _find_reason(self) -> str:
        """Which rank ended first, and how, as a message; waits a moment for its record."""
        begun = time.monotonic()
        while time.monotonic() - begun < (EARLY if self._records is None else WAIT):
            if (reason := self._seen_reason()) is not None:
                return reason
            time.sleep(0.05)
        self._telling = True
        seen = [
            f"{state.name()}, last seen {max(age, 0):.0f} s ago, {state.doing()}"
            for state, age in self._others()
        ]
        return (
            "the connection to another rank was lost, and which one ended first cannot be told "
            f"from here. Look at what the ranks printed. {'; '.join(seen)} {self._goes_on()}"
        )

    def _seen_reason(self) -> str | None:
        """The same where it can be seen now."""
        if self._records is None:
            for rank in self._exit_codes:
                return f"rank {rank} ended, {self._how(rank)}."
            return None
        if not ended(self._others()):
            return None
        time.sleep(SETTLE)  # an exit code may come, or the words of another that ended
        gone = ended(self._others())
        self._telling = self._is_first({state.rank for state in gone})
        return self._of_dead(gone[0])

    def _others(self) -> list[tuple[RankState, float]]:
        return [] if self._records is None else self._records.others(self._state.rank)

    def _is_first(self, gone: set[int]) -> bool:
        """Whether this is the first rank that is not ``gone``."""
        return self._state.rank == min(set(range(distributed.world_size())) - gone, default=0)

    def _of_dead(self, state: RankState) -> str:
        own = self._state
        when = f"in step {own.step + 1:,}" if own.in_step else f"after step {own.step:,}"
        if state.message is not None:
            said = state.message.rstrip()
            stop = "" if said.endswith((".", "!", "?")) else "."
            return f"{state.name()} ended first, {when}: {said}{stop} {self._goes_on()}"
        return f"{state.name()} died first, {when}, {self._how(state.rank)}. {self._goes_on()}"

    def _how(self, rank: int) -> str:
        code = self._exit_codes.get(rank)
        if code is None:
            return "without a message: killed, as the system does where memory runs out, or crashed"
        if code == -signal.SIGKILL:
            return "killed (SIGKILL), as the system does where memory runs out"
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def _goes_on(self) -> str:
        if self.folder is None:
            return ""
        last = (self.folder / "last.ckpt").is_file()
        return kept(self.folder) + (" Continue with --ckpt_path last." if last else "")

    def _watch(self) -> None:
        assert self._records is not None
        begun = looked = time.monotonic()
        while not self._ended.wait(self.beat):
            now = time.monotonic()
            if now - looked > 3 * self.beat:  # this process was stopped, and maybe the others too
                begun = now
            looked = now
            try:
                own = self._write()
            except OSError:  # the file system is away for a while
                continue
            if (reason := self._records.end_of_all()) is not None:
                self.reason, self._telling = reason, False
                self._leave()
            if self.timeout is None or now - begun < self.timeout:
                continue
            others = self._records.others(own.rank)
            if found := hanging(own, others, self.timeout, self._longest):
                self._end(own, found)
                return

    def _end(self, own: RankState, found: list[tuple[RankState, str]]) -> None:
        """End the ranks that hang, and the run."""
        assert self._records is not None
        hang = {state.rank for state, _ in found}
        self._telling = self._is_first(hang)
        parts = [f"{state.name()} {why}, last seen {state.doing()}" for state, why in found]
        if own.rank not in hang:
            parts.append(f"{own.name()} waits for it {own.doing()}")
        self.reason = (
            f"{'; '.join(parts)}. trainer.rank_timeout is {self.timeout:g} s, so the run ends. "
            f"{self._goes_on()}"
        )
        if self._telling:
            self._tell()
            self._records.end_all(self.reason)
            for state, _ in found:  # a connection is lost then, which ends the main thread's wait
                if own.rank not in hang and state.process.is_alive():
                    with contextlib.suppress(OSError):
                        os.kill(state.process.pid, signal.SIGKILL)
        if own.rank in hang or not self._ended.wait(GRACE):
            self._leave()

    def _leave(self, code: int = 1) -> None:
        """End this process from another thread than the main one, which waits for ever."""
        self._tell()
        self.give_up()
        sys.stderr.flush()
        os._exit(code)

    def _tell(self) -> None:
        """Print the reason once, if this rank is the one to do so."""
        if self._telling is not False and self.reason is not None:
            self._telling = False
            command = "validate" if self.folder is None else "fit"
            print_line(f"{program()} {command}: {as_called(self.reason)}")

    def _place(self) -> str:
        """The line of code that the main thread is executing."""
        return place(sys._current_frames().get(self._main))

    def _write(self, message: str | None = None) -> RankState:
        """Write this rank's current activity."""
        assert self._records is not None
        with self._writing:
            state = replace(
                self._state,
                seconds=time.monotonic() - self._since,
                # In the main thread it would be this very line.
                place="" if threading.get_ident() == self._main else self._place(),
                message=message,
            )
            self._records.write(state)
        return state


def place(frame: FrameType | None) -> str:
    """The line of code that a thread is at, and the line of ours that led there."""
    lines: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        ours = "sciembed_train" in path.parts
        if path.name == "launcher.py":  # everything comes from there
            break
        if ours or not lines:
            lines.append(f"{'/'.join(path.parts[-2:])}:{frame.f_lineno} ({frame.f_code.co_name})")
        if ours:
            break
        frame = frame.f_back
    return ", from ".join(lines)


def _message(error: BaseException) -> str:
    if isinstance(error, UserError | RunError):
        return str(error)
    said = one_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
