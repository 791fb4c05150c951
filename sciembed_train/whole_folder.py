"""Folders that appear when they are whole, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sciembed_train.errors import UserError

# Age in seconds from which on a folder that a process of another machine began is taken for left
# behind: whether that process lives cannot be asked.
ABANDONED = 24 * 3600


@contextmanager
def whole_folder(to: Path) -> Iterator[Path]:
    """A new folder beside ``to`` that takes its name when the block ends well.

    An earlier ``to`` is replaced then; where it is a symbolic link, the folder that it names is. An
    error removes the new folder and leaves the earlier one as it was. What a killed process left
    behind is removed by the next one.

    Raises:
        UserError: the place cannot be written.
    """
    to = Path(os.path.realpath(to)) if to.is_symlink() else to
    own = f"{socket.gethostname()}-{os.getpid()}"
    partial, old = (to.parent / f".{to.name}.{kind}-{own}" for kind in ("partial", "old"))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        sweep(to)
        partial.mkdir()
    except OSError as error:
        raise UserError(
            f"{to} cannot be written: {error.strerror or error}. Give a folder that can."
        ) from error
    try:
        yield partial
        if to.exists():
            to.rename(old)
        try:
            partial.rename(to)
        except OSError:
            if old.exists():
                old.rename(to)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep(to: Path) -> None:
    """Remove what dead processes left beside ``to``.

    Of another machine that is what nothing was written to for a day.
    """
    for kind in ("partial", "old"):
        start = f".{to.name}.{kind}-"
        for path in sorted(to.parent.iterdir()):
            host, _, pid = path.name.removeprefix(start).rpartition("-")
            if not path.name.startswith(start) or not pid.isdigit():
                continue
            if not left_behind(path, host, int(pid)):
                continue
            if kind == "old" and not to.exists():
                path.rename(to)  # it died between the two renames: the old folder is whole
            else:
                shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Have the new names in a folder on the disk, too, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def left_behind(path: Path, host: str, pid: int) -> bool:
    """Whether the process that makes a file or folder has died; see `ABANDONED` for other hosts."""
    if host == socket.gethostname():
        return not _alive(pid)
    try:
        latest = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
    except FileNotFoundError:  # somebody works on it
        return False
    return time.time() - latest > ABANDONED


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
