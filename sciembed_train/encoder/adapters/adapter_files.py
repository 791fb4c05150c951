"""Adapters in the layout of AdapterHub: a folder each, written and read through the library."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciembed_train.encoder.adapters.adapter_settings import library
from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json
from sciembed_train.safety.model_config import check_keys
from sciembed_train.safety.weights import load_pickled

CONFIG = "adapter_config.json"
SAFE = "adapter.safetensors"
# The only one that `load_adapter` finds by default.
PICKLED = "pytorch_adapter.bin"
# These set how an adapter is initialised or trained, not what it computes.
_FREE = ("init_weights", "init_weights_seed", "dropout")


def save_adapter(backbone: Any, code: str, folder: Path, base: str, fingerprint: str) -> None:
    """Write one adapter of a backbone, as ``.bin`` and as safetensors.

    The folder is made where it is missing; ``fingerprint`` is of the backbone's weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for safe in (False, True):
        backbone.save_adapter(str(folder), code, use_safetensors=safe)
    _add_shared(backbone, code, folder)
    add_entries(folder / CONFIG, model_name=base, base_fingerprint=fingerprint)


def _add_shared(backbone: Any, code: str, folder: Path) -> None:
    """Add what an adapter's layers share, which the library leaves out of a model without heads."""
    from safetensors.torch import save_file

    start = f"shared_parameters.{code}."
    state = backbone.state_dict()
    shared = {k: v.detach().cpu().clone() for k, v in state.items() if k.startswith(start)}
    if shared:
        tensors = {**read_weights(folder), **shared}
        torch.save(tensors, folder / PICKLED)
        save_file(tensors, folder / SAFE, metadata={"format": "pt"})


def add_entries(path: Path, **entries: Any) -> None:
    """Put entries into the file that the library wrote, some in place of its own."""
    # The library's own `model_name` is the path that the backbone was loaded from.
    content = {**read_json(path), **entries}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_adapter(backbone: Any, code: str, place: str, wanted: Any, fingerprint: str) -> None:
    """Put a trained adapter into a backbone.

    Args:
        backbone: prepared by the library, without an adapter of this name.
        code: the adapter's name in the backbone, whatever it was saved as.
        place: its folder or hub name.
        wanted: the library's configuration it must have.
        fingerprint: of the backbone's weights; an adapter that records another is refused.
            Published ones record none.

    Raises:
        UserError: there is none, it is for another backbone or of another kind, or its weights
            are damaged, incomplete or hold more than tensors.
    """
    folder = find_adapter(place)
    content = read_json(folder / CONFIG)
    check_keys(content, str(folder / CONFIG))
    try:
        name, config = str(content["name"]), dict(content["config"])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: is no adapter of the AdapterHub library ({error} is missing or "
            "wrong; adapters of other libraries have files of the same name)."
        ) from error
    check_base(content, folder / CONFIG, backbone, fingerprint)
    _check_kind(config, wanted, folder / CONFIG)
    adapters = library()
    # From a model with a head every name begins with the model's own.
    renamed = adapters.loading.AdapterLoader(backbone).rename_func(name, code)
    start = f"{backbone.base_model_prefix}."
    state = {renamed(k).removeprefix(start): v for k, v in read_weights(folder).items()}
    names_before = set(backbone.state_dict())
    backbone.add_adapter(code, wanted)
    put_in(backbone, state, set(backbone.state_dict()) - names_before, folder, "adapter")


def check_base(content: Mapping[str, Any], path: Path, backbone: Any, fingerprint: str) -> None:
    """See that a folder's adapter or fusion belongs to a backbone.

    Raises:
        UserError: it belongs to another one.
    """
    for key in ("hidden_size", "model_type"):
        theirs, ours = content.get(key), getattr(backbone.config, key)
        if theirs != ours:
            raise UserError(
                f"{path}: the adapter is for a backbone of {key} {theirs!r}, and this "
                f"one has {ours!r}. Give an adapter that was trained in it."
            )
    known = content.get("base_fingerprint")
    if known not in (None, fingerprint):
        raise UserError(
            f"{path}: the adapter was trained in {content.get('model_name')}, whose "
            "weights are other ones than those of this backbone: it would give meaningless "
            "vectors. Give the backbone it was trained in; to begin with it all the same, take "
            "`base_fingerprint` out of the file."
        )


def put_in(
    backbone: Any, state: Mapping[str, Tensor], expected: set[str], folder: Path, what: str
) -> None:
    """Give a backbone the weights of a folder.

    Raises:
        UserError: some are missing, or left over, or of other shapes.
    """
    missing, more = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or more:
        raise UserError(
            f"{folder}: {len(missing)} tensors of the {what} are not in its file, and "
            f"{len(more)} in the file have no place in this backbone "
            f"({', '.join([*missing, *more][:2])}, ...). It was trained in another backbone, or "
            "the file is incomplete."
        )
    try:
        backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: the {what}'s weights do not fit its configuration: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error


def find_adapter(
    place: str, config: str = CONFIG, pickled: str = PICKLED, what: str = "adapter"
) -> Path:
    """The folder of a trained adapter, or the local copy of one on the hub.

    Raises:
        UserError: there is none.
    """
    from sciembed_train.safety.find_model import find_folder

    folder = find_folder(place, pickled)
    if not (folder / config).is_file():
        raise UserError(f"{place}: holds no {config}; expected the folder of one {what}.")
    return folder


def read_weights(folder: Path, safe: str = SAFE, pickled: str = PICKLED) -> dict[str, Tensor]:
    """The tensors of an adapter's folder; safetensors where it has them.

    Raises:
        UserError: there are none, or the file is damaged or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / (safe if (folder / safe).is_file() else pickled)
    try:
        if path.name == safe:
            return load_file(path)
        remedy = f"Fetch the adapter again, or get it as {safe}."
        state = load_pickled(path, "file of tensors", remedy)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: holds neither {safe} nor {pickled}.") from error
    except UserError:
        raise
    except (SafetensorError, RuntimeError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path}: is damaged ({error}). Fetch the adapter again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no tensors by name, so it is no adapter's file.")
    return dict(state)


def _check_kind(config: dict[str, Any], wanted: Any, path: Path) -> None:
    try:
        actual = library().AdapterConfig.load(config).to_dict()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: `config` is none that the library knows ({error}).") from error
    expected = wanted.to_dict()
    free = {key for key in expected if "phm" in key and not expected.get("phm_layer")} - {
        "phm_layer"
    }
    differing = sorted(
        key
        for key in {*actual, *expected} - {*_FREE, *free}
        if actual.get(key) != expected.get(key)
    )
    if differing:
        described = "; ".join(
            f"{key} {actual.get(key)!r}, expected {expected.get(key)!r}" for key in differing[:3]
        )
        raise UserError(
            f"{path}: the adapter is of another kind than encoder.adapters.config and reduction "
            f"say: {described}. Set them to the adapter's own."
        )


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, shapes and values of a backbone's tensors, without the pooler's."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.startswith("pooler."):
            values = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
            digest.update(values.numpy().data)
    return digest.hexdigest()
