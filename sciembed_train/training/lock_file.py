"""The file of a lock: made by one process alone, read, and removed when its process has died."""

from __future__ import annotations

import errno
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from sciembed_train.training.process_identity import Process

NAME = "run.lock"
SCRATCH = f".{NAME}-"  # of files that are there for a moment
DROPPING = 60.0  # seconds after which a process that drops a lock has died; it takes milliseconds
# What a file system without hard links answers.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


@dataclass(frozen=True)
class LockFile:
    """A lock as it was read.

    Args:
        text: what it says.
        beat: its last heartbeat in nanoseconds, by the clock of the file system.
    """

    text: str
    beat: int

    @classmethod
    def read(cls, path: Path) -> LockFile | None:
        """The lock; None if there is none. Opening it makes NFS ask the server."""
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                return cls(file.read(), os.fstat(file.fileno()).st_mtime_ns)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # NFS's word for one just removed
                return None
            raise

    @property
    def holder(self) -> Process | None:
        """The holder; None while the file is incomplete."""
        try:
            return Process(**json.loads(self.text)["process"])
        except (ValueError, TypeError, KeyError):
            return None

    def describe(self) -> str:
        """Host, process and start, in words."""
        holder = self.holder
        if holder is None:
            return f"a process that has not said in {NAME} which it is"
        return f"host {holder.host}, pid {holder.pid}, since {json.loads(self.text).get('since')}"


def give_name(source: Path, path: Path) -> bool:
    """Give a file an unused name; of several processes that try, one succeeds."""
    try:
        os.link(source, path)
    except FileExistsError:
        # Over NFS the answer may be lost and the request sent again: then this one made it.
        return source.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(source.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def drop(path: Path, lock: LockFile) -> bool:
    """Remove the lock of a dead process, unless another has taken its place.

    One process at a time drops locks, behind a lock of its own: without it, one that is late would
    move away the lock of the next holder. Returns False, and does nothing, where another process
    is at it.
    """
    guard = path.with_name(f"{SCRATCH}drop")
    mark = path.with_name(f"{SCRATCH}{secrets.token_hex(8)}")
    try:
        mark.touch()
        if not give_name(mark, guard):
            there = LockFile.read(guard)
            if there is not None and mark.stat().st_mtime_ns - there.beat > DROPPING * 10**9:
                guard.unlink(missing_ok=True)  # of a process that died just then
            return False
        try:
            if LockFile.read(path) == lock:
                path.unlink(missing_ok=True)
        finally:
            guard.unlink(missing_ok=True)
        return True
    except FileNotFoundError:  # the next holder has cleared the folder of such files
        return False
    finally:
        mark.unlink(missing_ok=True)
