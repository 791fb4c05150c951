"""The errors that a user sees as one message: of the input (exit code 2), and of a run (1)."""

import os
from pathlib import Path


class UserError(ValueError):
    """Something a user can mend; the command line prints the message and exits with 2.

    The message says where (file, line or key), what was found, and what to do. Anything that
    is neither a ``UserError`` nor a ``RunError`` is a defect of ours and keeps its traceback.
    """


class RunError(RuntimeError):
    """Work that was begun and cannot go on; the command line prints the message and exits with 1.

    The message says what happened, what is safe, and how to go on.
    """


def why_no_file(path: str | Path, what: str = "file") -> str:
    """Why a path, which is no ``what``, cannot be read as one: for a message, after the path."""
    if not Path(path).exists():
        windows = "\\" in str(path) and os.sep != "\\"
        return f"there is no such {what}" + ("; write / between folders, not \\" if windows else "")
    if Path(path).is_dir():
        return f"is a folder, and no {what}"
    return (
        f"is a pipe or a device, which can be read only once, and no {what}; write what it gives "
        "to a file, and name that"
    )


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
