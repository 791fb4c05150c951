"""The lock of a run's folder: one `fit` at a time writes there."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from sciembed_train.errors import RunError, UserError
from sciembed_train.progress import duration, print_line
from sciembed_train.training.lock_file import NAME, SCRATCH, LockFile, drop, give_name
from sciembed_train.training.process_identity import Process

HEARTBEAT = 30.0  # seconds
STALE = 300.0  # seconds without a heartbeat after which a run of another machine is taken for dead
POLL = 1.0  # seconds
AGAIN = 0.05  # seconds until the lock of a dead process is looked at again, which another drops


class RunLock:
    """A lock file with the process that holds it, whose time is renewed as long as it lives.

    It is made whole under another name and gets its own by a hard link, which one process alone
    can make, on NFS too; ``flock`` would not do on every NFS. A lock is dropped where its process
    has died on this machine, or has sent no heartbeat for `STALE` seconds on another. Times are
    those that the file system gives: the clocks of two machines are never compared.

    As a context manager it gives up what it has taken, also on SIGTERM.

    Args:
        heartbeat: seconds between two.
        stale: seconds without one after which another machine's lock is dropped.
    """

    def __init__(self, heartbeat: float = HEARTBEAT, stale: float = STALE) -> None:
        self.heartbeat, self.stale = heartbeat, stale
        self.folder: Path | None = None
        self._text = ""
        self._owner = 0
        self._made: list[Path] = []
        self._ended = threading.Event()
        self._renewing = threading.RLock()  # SIGTERM may come while the lock is given up

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def take(self, folder: Path) -> None:
        """Hold the lock of a folder, which is created; wait where its holder may be dead.

        Raises:
            UserError: another process holds it and lives.
            OSError: the folder cannot be written.
        """
        record = {
            "process": asdict(Process.this()),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
            "key": secrets.token_hex(8),
        }
        self._text = json.dumps(record, indent=1) + "\n"
        self.folder, self._owner = folder, os.getpid()
        path = folder / NAME
        dead: LockFile | None = None
        while (now := self._claim(folder)) is not None:
            lock = LockFile.read(path)
            if not now or lock is None:
                continue
            if lock != dead and not _wait_until_dead(path, lock, now, self.stale):
                continue
            dead = lock
            if not drop(path, lock):
                time.sleep(AGAIN)
        self._take_signal()
        threading.Thread(target=self._beat, name="heartbeat of the run", daemon=True).start()

    def check(self) -> None:
        """End this run if another process has taken it over meanwhile.

        Raises:
            RunError: one has.
        """
        if self.folder is None:
            return
        lock = LockFile.read(self.folder / NAME)
        if lock is not None and lock.text != self._text:
            raise RunError(
                f"{self.folder}: another fit has taken the run over ({lock.describe()}), because "
                f"this one sent no heartbeat for {duration(self.stale)}: it was stopped, or cut "
                "off from the file system. It ends here and saves nothing more."
            )

    def release(self) -> None:
        """Remove the lock, and folders that were made for it and are empty."""
        self._ended.set()
        if self.folder is None or os.getpid() != self._owner:
            return
        with self._renewing, suppress(OSError):  # one that is gone must not hide why the run ended
            path, self.folder = self.folder / NAME, None
            lock = LockFile.read(path)
            if lock is not None and lock.text == self._text:
                path.unlink(missing_ok=True)
        while self._made:
            with suppress(OSError):  # it is not empty
                self._made.pop().rmdir()
        if _handles_signals() and signal.getsignal(signal.SIGTERM) == self._end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _claim(self, folder: Path) -> int | None:
        """Try to take the lock; returns None if that was done, else the file system's time.

        0 stands for a time that is not known: another process removed its empty folder just then.
        """
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir(exist_ok=True)
                self._made.append(path)
        offer = folder / f"{SCRATCH}{secrets.token_hex(8)}"
        try:
            offer.write_text(self._text, encoding="utf-8")
            now = offer.stat().st_mtime_ns
            return None if give_name(offer, folder / NAME) else now
        except FileNotFoundError:
            return 0
        finally:
            offer.unlink(missing_ok=True)

    def _beat(self) -> None:
        """Renew the time of the lock, as long as it is this process's."""
        while not self._ended.wait(self.heartbeat):
            with self._renewing, suppress(OSError):  # of a file system that is away for a while
                if self.folder is None:
                    return
                lock = LockFile.read(self.folder / NAME)
                if lock is None:  # somebody removed it
                    self._claim(self.folder)
                elif lock.text == self._text:
                    os.utime(self.folder / NAME)
                else:  # another has taken the run over, as `check` will find
                    return

    def _take_signal(self) -> None:
        """Make SIGTERM remove the lock where it would end the process at once."""
        if _handles_signals() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.release()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def sigterm_handler() -> Any:
    """The handler by which SIGTERM ends the process: a held lock's, else the system's."""
    handler = signal.getsignal(signal.SIGTERM)
    held = isinstance(getattr(handler, "__self__", None), RunLock)
    return handler if held else signal.SIG_DFL


def _handles_signals() -> bool:
    """Whether this is the main thread, which alone may set signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _wait_until_dead(path: Path, lock: LockFile, now: int, stale: float) -> bool:
    """Whether the lock of a dead process is there; False if there is none any more.

    Raises:
        UserError: the process that holds it lives.
    """
    begun, age, said = time.monotonic(), max(0.0, (now - lock.beat) / 1e9), False
    while True:
        alive = None if lock.holder is None else lock.holder.is_alive()
        passed = age + time.monotonic() - begun
        if alive:
            raise _held(path, lock, passed, stale)
        if alive is False:
            print_line(f"{path.parent}: its last fit was killed ({lock.describe()}).")
            return True
        if passed >= stale:
            print_line(
                f"{path.parent}: its last fit ({lock.describe()}) has sent no heartbeat for "
                f"{duration(passed)} and is taken for dead."
            )
            return True
        if not said:
            print_line(
                f"{path.parent} is held by another fit ({lock.describe()}). Its last heartbeat "
                f"is {duration(passed)} old, and whether it lives cannot be asked from here. "
                "Waiting for another heartbeat, at most "
                f"{duration(stale - passed)}; without one the run goes on here."
            )
            said = True
        time.sleep(min(POLL, stale - passed))
        latest = LockFile.read(path)
        if latest is None:
            return False
        if latest != lock:
            raise _held(path, latest, 0.0, stale)


def _held(path: Path, lock: LockFile, age: float, stale: float) -> UserError:
    """The error of a run that another process writes."""
    holder = lock.holder
    pid = "its process" if holder is None else f"`kill {holder.pid}` on {holder.host}"
    silent = (
        f" It has sent no heartbeat for {duration(age)}: it is stopped or hangs."
        if age > stale
        else ""
    )
    return UserError(
        f"{path.parent}: another fit is writing this run ({lock.describe()}).{silent} Wait for it, "
        f"or end it ({pid}) and continue with --ckpt_path last, or start another run with "
        "--run NAME."
    )
