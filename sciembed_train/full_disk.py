"""Full disks: known by the error of any library, told in one message, and met before the work."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sciembed_train.errors import RunError

# No space, a quota, and the largest file that the system allows.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As libraries written in Rust word an error of the system, such as safetensors.
_WORDED = re.compile(r"\(os error (\d+)\)")
# Libraries that say it in the system's words alone.
_IN_WORDS = ("duckdb", "_duckdb")
_ZEROS = bytes(2**20)


class NoRoomError(OSError):
    """A file has no room on its disk.

    Attributes:
        needed: its bytes.
    """

    def __init__(self, number: int, path: Path, needed: int) -> None:
        super().__init__(number, os.strerror(number), str(path))
        self.needed = needed


def disk_error(error: BaseException) -> str | None:
    """What the system said of a full disk, if that is behind an error; else None.

    torch raises another error over it, safetensors one with the same words.
    """
    for each in _chain(error):
        number = each.errno if isinstance(each, OSError) else None
        if number is None and (worded := _WORDED.search(str(each))):
            number = int(worded[1])
        if number in FULL:
            return os.strerror(number)
        if type(each).__module__.partition(".")[0] in _IN_WORDS:
            for text in map(os.strerror, FULL):
                if text in str(each):
                    return text
    return None


@contextmanager
def told_full_disk(target: Path, safe: str) -> Iterator[None]:
    """Raise what a full disk causes as a RunError; any other error as it is.

    Args:
        target: what is written.
        safe: what is not lost, and how to go on, in whole sentences.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        if (message := full_disk_message(error, target, safe)) is None:
            raise
        raise RunError(message) from error


def full_disk_message(
    error: BaseException, target: Path, safe: str, needed: int | None = None
) -> str | None:
    """What a user is told of an error if a full disk is behind it; see `told_full_disk`.

    ``needed`` are the file's bytes; by default those of a `NoRoomError`, if it is one.
    """
    full = disk_error(error)
    if full is None:
        return None
    told = [each.needed for each in _chain(error) if isinstance(each, NoRoomError)]
    needed = told[0] if needed is None and told else needed
    need = "" if needed is None else f"It takes {needed / 1e9:.3g} GB; "
    place = target.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    return f"{target} cannot be written: {full}. {need}{free:.3g} GB are free there. {safe}"


def allocate(path: Path, size: int) -> None:
    """Make a file ``size`` bytes long, all of which are on the disk.

    Bytes that a file lacks at its end are given to it only when they are written. Where that is
    done through a memory map and the disk is full, the process dies without a message (SIGBUS).

    Raises:
        NoRoomError: there is no room; the file is removed.
    """
    try:
        with path.open("r+b") as file:
            missing = size - file.seek(0, os.SEEK_END)
            if missing > 0 and not _reserved(file.fileno(), size):
                for at in range(0, missing, len(_ZEROS)):
                    file.write(_ZEROS[: missing - at])
                file.flush()
                os.fsync(file.fileno())  # a file system may find out late
    except OSError as error:
        if error.errno not in FULL:
            raise
        path.unlink(missing_ok=True)
        raise NoRoomError(error.errno, path, size) from error


def _reserved(handle: int, size: int) -> bool:
    """Whether the system has given a file its bytes; False where it cannot do so."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def new_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    """A new ``.npy`` file of zeros, all of it on the disk, mapped into memory for writing.

    Raises:
        NoRoomError: there is no room; the file is removed.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        size = file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    allocate(path, size)
    return np.lib.format.open_memmap(path, "r+")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised over."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
