"""Files out: checked to be writable before the work, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sciembed_train.corpus.shared_work import own_name
from sciembed_train.errors import UserError
from sciembed_train.whole_folder import sync_folder


def writable(target: Path, option: str = "--to") -> Path:
    """The target, after it was made sure that it can be written; ``option`` named it.

    Raises:
        UserError: it cannot.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UserError(f"{option} {target} is a folder; give the name of a file.")
        probe = target.parent / f".{target.name}.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{option} {target} cannot be written: {error.strerror}. Give a place that can."
        ) from error
    return target


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(target) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def whole_file(target: Path) -> Iterator[TextIO]:
    """A file of text to write, which gets its name at the end; after an error there is none.

    It is on the disk before it has its name, and processes of other machines may write one too.
    """
    partial = target.with_name(own_name(target.name))
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
