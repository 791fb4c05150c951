"""What of a foreign model folder is refused before ``transformers`` reads it.

``config.json`` is data, but some of its keys make the pinned ``transformers`` fetch and run code
even with ``trust_remote_code=False`` (CVE-2026-4372), and pickled weights can run code as well.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError

# Attention that ships inside transformers. Any other name may be that of a kernel on the hub, and
# for flash_attention_2 and _3 transformers takes one from there where flash-attn is not installed.
_OWN_ATTENTION = {None, "eager", "sdpa", "flex_attention"}
_CODE_KEYS = {
    "_attn_implementation_internal": "can make transformers fetch and run code",
    "_experts_implementation_internal": "can make transformers fetch and run code",
    "auto_map": "asks for the model's own Python code to be run",
    "custom_pipelines": "asks for the model's own Python code to be run",
    "quantization_config": "asks for quantised weights, which cannot be trained here",
    "transformers_weights": "names another weight file than the usual one",
}
_CHECKED_FILES = ("config.json", "tokenizer_config.json")
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}). Fetch the model again.") from error


def load_pickled(path: Path, what: str, remedy: str) -> Any:
    """The content of a file that torch pickled, on the CPU; no code in it is run.

    Args:
        path: the file.
        what: it is, for the message.
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


def _items(value: Any, at: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key of nested objects with its path and value."""
    stack = [(at, value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                yield f"{path}{key}", key, inner
                stack.append((f"{path}{key}.", inner))
        elif isinstance(item, list):
            stack.extend((f"{path}{i}.", inner) for i, inner in enumerate(item))


def check_config(config: Any, where: str) -> None:
    """Refuse a model configuration that could run code or load foreign weights.

    Args:
        config: the parsed JSON.
        where: the file, for the message.

    Raises:
        UserError: it is no object, or holds a refused key at any depth.
    """
    if not isinstance(config, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(config).__name__}.")
    for path, key, value in _items(config):
        if key in _CODE_KEYS and value is not None:
            raise UserError(
                f"{where}: the key `{path}` {_CODE_KEYS[key]}, so the model is refused. "
                "Use a model that transformers runs without code of its own; if you trust this "
                "one and it works without the key, remove the key."
            )
        if key in ("_attn_implementation", "attn_implementation"):
            name = value if isinstance(value, str | None) else json.dumps(value)
            if name not in _OWN_ATTENTION:
                raise UserError(
                    f"{where}: `{path}` is {name!r}, which can make transformers fetch and run "
                    "code. Remove the key."
                )


def check_config_json(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``, after it and the tokenizer's were found harmless.

    Raises:
        UserError: a file is missing, not JSON, or refused by `check_config`.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds no config.json; give the folder of a whole model.")
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder}: holds adapter_config.json, so it is an adapter; give the folder of the "
            "whole model it belongs to."
        )
    check_files(folder)
    return read_json(folder / "config.json")


def check_files(folder: Path) -> None:
    """`check_config` of each configuration file that the folder has.

    Raises:
        UserError: one is not JSON, or refused.
    """
    for name in _CHECKED_FILES:
        if (folder / name).is_file():
            check_config(read_json(folder / name), str(folder / name))


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
