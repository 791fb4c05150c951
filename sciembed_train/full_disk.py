"""Whether an error is that of a full disk, whichever library raised it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

# No space, a quota, and the largest file that the system allows.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As libraries written in Rust word an error of the system, such as safetensors.
_WORDED = re.compile(r"\(os error (\d+)\)")


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
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised over."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
