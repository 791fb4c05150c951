"""The folder that an export is written to: checked first, and errors that name it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciembed_train.errors import RunError, UserError
from sciembed_train.full_disk import full_disk_message

_AS_BEFORE = (
    "What it is made from is as it was, and so is an earlier export. Make room and run the same "
    "command again."
)


def check_target(folder: Path, overwrite: bool, marker: str = "sciembed.json") -> None:
    """Make the parent folder, and check that ``folder`` may be written.

    An earlier export, which holds ``marker``, may be replaced with ``overwrite``.

    Raises:
        UserError: it is a file, holds something, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder that does not exist yet.")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(
                f"{folder}: exists and is not empty. Give another folder, or --overwrite to "
                "replace it."
            )
        if not (folder / marker).is_file():
            raise UserError(
                f"{folder}: holds no {marker}, so it is no earlier export and is not "
                "overwritten. Give another folder."
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be made ({error.strerror}).") from error
    if not os.access(folder.parent, os.W_OK):
        raise UserError(f"{folder.parent}: is not writable. Give a folder elsewhere.")


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn errors while files are written into errors that name ``folder``.

    Raises:
        UserError: it cannot be written.
        RunError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if (message := full_disk_message(error, folder, _AS_BEFORE)) is not None:
            raise RunError(message) from error
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from error
