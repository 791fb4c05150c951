"""The checksums of a folder's files: recorded when it is written, compared when one is opened.

``checksums.json`` lies in a corpus folder and in each folder that is added to it whole, such as a
token store or mined negatives, and covers the files below it that no other one covers. Files of
at most `SMALL` bytes are compared whenever they are opened, larger ones by their length alone;
`damaged_files` compares all. ``corpus.json``, which grows with the corpus, has none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError

NAME = "checksums.json"
SMALL = 8 * 2**20
_WITHOUT = (NAME, "corpus.json")
_LEVELS = 3  # of folders between a file and its record


def record_checksums(folder: Path) -> None:
    """Write ``checksums.json`` of a folder that is complete."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in _files(folder)
    }
    _write(folder / NAME, files)


def add_checksum(path: Path) -> None:
    """Write the checksum of a file that was added to a corpus, if the corpus has checksums."""
    folder = path.parent
    if not (folder / NAME).is_file():
        return
    entry = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    files = dict(_record(folder)) | {path.name: entry}
    partial = folder / f".{NAME}.{os.getpid()}"
    try:
        _write(partial, files)
        partial.replace(folder / NAME)
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Compare a file that is opened with its record, if it has one; of a large one the length.

    Raises:
        UserError: it is not as it was written.
    """
    for folder in [*path.parents][:_LEVELS]:
        if not (folder / NAME).is_file():
            continue
        entry = _record(folder).get(path.relative_to(folder).as_posix())
        if entry is not None and (fault := _fault(path, entry, SMALL)) is not None:
            raise damaged(path, fault, folder)
        return


def damaged(path: Path, fault: str, folder: Path | None = None) -> UserError:
    """The error of a file that is not as it was written, in a folder that can be made again."""
    place = "the corpus" if folder is None else str(folder)
    return UserError(
        f"{path} is damaged: {fault}. Remove {place} and make it again with the command that made "
        "it (`train prepare`, or `train mine` of mined negatives)."
    )


def damaged_files(
    folder: Path, on_bytes: Callable[[int], None] | None = None
) -> tuple[int, list[str]]:
    """Compare every file of a corpus with its checksum.

    Args:
        folder: of the corpus.
        on_bytes: gets the bytes of each file that was read.

    Returns:
        How many files were compared, and a line for each that is damaged or missing.

    Raises:
        UserError: the folder has no checksums.
    """
    records = sorted(folder.rglob(NAME))
    if not (folder / NAME).is_file():
        raise UserError(
            f"{folder} has no {NAME}: it is no corpus, or one that an earlier version made. Run "
            "prepare again."
        )
    compared, lines = 0, []
    for record in records:
        for name, entry in _record(record.parent).items():
            path = record.parent / name
            fault = _fault(path, entry)
            if on_bytes is not None:
                on_bytes(entry["bytes"])
            compared += 1
            if fault is not None:
                lines.append(f"{path}: {fault}")
    return compared, lines


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that have no record of their own, in order."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not (path / NAME).is_file():
                yield from _files(path)
        elif path.name not in _WITHOUT:
            yield path


def _write(path: Path, files: Mapping[str, Any]) -> None:
    text = json.dumps({"files": files}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _record(folder: Path) -> Mapping[str, Any]:
    """The entries of a folder's record."""
    path = folder / NAME
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        for entry in files.values():
            int(entry["bytes"]), str(entry["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, str(error), path.parent) from error
    return files


def _fault(path: Path, entry: Mapping[str, Any], largest: int | None = None) -> str | None:
    """What is wrong with a file; of one with more than ``largest`` bytes the length is compared."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "it is missing"
    if status.st_size != entry["bytes"]:
        return f"it has {status.st_size:,} bytes, and {entry['bytes']:,} were written"
    if largest is not None and status.st_size > largest:
        return None
    if _known_sha256(path, status.st_mtime_ns, status.st_size) != entry["sha256"]:
        return "its checksum is another than that of the bytes that were written"
    return None


@lru_cache(maxsize=1024)
def _known_sha256(path: Path, changed: int, size: int) -> str:
    """The checksum of a file, which is read once as long as it does not change."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
