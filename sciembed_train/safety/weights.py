"""Weights of a foreign folder: tensors and plain values, never code."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def load_pickled(path: Path, what: str, remedy: str) -> Any:
    """The content of a file that torch pickled, on the CPU; no code in it is run.

    Args:
        path: the file.
        what: the kind of file, for the message.
        remedy: what the user can do where it asks for code.

    Raises:
        UserError: it asks for anything but tensors and plain values. Files that cannot be read or
            are damaged raise as `torch.load` does.
    """
    import torch

    try:
        with warnings.catch_warnings():
            # torch warns of pickles it did not write, and then refuses them.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Not torch's own words: they advise to load it all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        asks = f": it asks for {named[1]}" if named else ""
        raise UserError(f"{path}: is no {what} that can be read safely{asks}. {remedy}") from error


def weight_format(folder: Path) -> str:
    """``safetensors`` where the folder has it, else ``bin`` (read with ``weights_only=True``).

    Raises:
        UserError: there is neither.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return "safetensors" if "safetensors" in name else "bin"
    raise UserError(
        f"{folder}: holds no weights; expected one of {', '.join(WEIGHTS)}. "
        "Fetch the model again, with its weights."
    )


def weight_bytes(folder: Path) -> int:
    """Size of the folder's weights, those of all its parts together.

    Raises:
        UserError: there are none, or an index names a file that is not in the folder itself.
    """
    file_format = weight_format(folder)
    names = [name for name in WEIGHTS if (folder / name).is_file()]
    name = next(name for name in names if ("safetensors" in name) == (file_format != "bin"))
    if not name.endswith(".index.json"):
        return (folder / name).stat().st_size
    content = read_json(folder / name)
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(parts, dict):
        raise UserError(f"{folder / name}: has no `weight_map`. Fetch the model again.")
    size = 0
    for part in sorted({str(part) for part in parts.values()}):
        if Path(part).name != part or not (folder / part).is_file():
            raise UserError(
                f"{folder / name}: names the file {part!r}, which is not in the folder. Fetch the "
                "model again."
            )
        size += (folder / part).stat().st_size
    return size
