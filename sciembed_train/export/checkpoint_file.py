"""A file that ``torch.save`` wrote, read without running anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors and plain values only.

    Raises:
        UserError: the file is unreadable, damaged, or holds anything else.
    """
    import errno
    import pickle
    import re
    import warnings

    import torch

    cut_short = f"{path}: is cut short, or no checkpoint at all. Copy it again, or give another."

    try:
        with warnings.catch_warnings():
            # torch warns of pickles it did not write, and then refuses them.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch seeks for the index at the end
            raise UserError(cut_short) from error
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except pickle.UnpicklingError as error:
        # Not torch's own words: they advise to load it all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        asks = f": it asks for {named[1]}" if named else ""
        raise UserError(
            f"{path}: is no checkpoint that can be read safely{asks}. "
            "Only files of tensors and plain values are loaded, such as `train fit` writes."
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise UserError(cut_short) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected a checkpoint.")
    return content
