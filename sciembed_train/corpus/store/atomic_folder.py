"""Files and folders of a corpus that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError


def save_info(folder: Path, info: Mapping[str, Any], name: str = "corpus.json") -> None:
    """Write ``corpus.json`` or ``report.json``, whole or not at all."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / name)


@contextmanager
def written_whole(to: Path, marker: str = "corpus.json") -> Iterator[Path]:
    """A temporary folder beside ``to`` that takes its name when the block ends well.

    An error removes it. What a killed process left behind is removed by the next one; ``to``
    is never there half written. A folder that stands at ``to`` is replaced if it is empty or
    holds ``marker``.

    Raises:
        UserError: the place cannot be written, or holds something else.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not (to / marker).is_file()):
        raise UserError(f"{to} exists and is no corpus. Give --to another folder, or remove it.")
    partial = to.parent / f".{to.name}.partial-{socket.gethostname()}-{os.getpid()}"
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
        old = to.parent / f".{to.name}.old-{socket.gethostname()}-{os.getpid()}"
        if to.exists():
            to.rename(old)
        try:
            partial.rename(to)
        except OSError:
            if old.exists():
                old.rename(to)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno in (28, 122):  # no space, quota: the user can mend it
            raise UserError(f"{to} could not be written: {error.strerror}.") from error
        raise
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
                path.rename(to)  # it died between the two renames: the old corpus is whole
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
