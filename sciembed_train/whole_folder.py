"""Folders that appear when they are whole, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciembed_train.errors import UserError


@contextmanager
def whole_folder(to: Path) -> Iterator[Path]:
    """A new folder beside ``to`` that takes its name when the block ends well.

    An earlier ``to`` is replaced then. An error removes the new folder and leaves the earlier one
    as it was. What a killed process left behind is removed by the next one.

    Raises:
        UserError: the place cannot be written.
    """
    own = f"{socket.gethostname()}-{os.getpid()}"
    partial, old = (to.parent / f".{to.name}.{kind}-{own}" for kind in ("partial", "old"))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        _sweep(to)
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


def _sweep(to: Path) -> None:
    """Remove what dead processes of this machine left beside ``to``."""
    host = socket.gethostname()
    for path in sorted(to.parent.iterdir()):
        for kind in ("partial", "old"):
            start = f".{to.name}.{kind}-{host}-"
            pid = path.name.removeprefix(start)
            if not path.name.startswith(start) or not pid.isdigit() or _alive(int(pid)):
                continue
            if kind == "old" and not to.exists():
                path.rename(to)  # it died between the two renames: the old folder is whole
            else:
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
