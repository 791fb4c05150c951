"""Adapters as AdapterHub's users know them: a folder each, written and read through the library."""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciembed_train.encoder.adapter_settings import library
from sciembed_train.errors import UserError
from sciembed_train.safety import read_json

CONFIG = "adapter_config.json"
SAFE = "adapter.safetensors"
# The only one that `load_adapter` finds unless it is told otherwise.
PICKLED = "pytorch_adapter.bin"
# These say how an adapter begins or is trained, not what it computes.
_FREE = ("init_weights", "init_weights_seed", "dropout")


def save_adapter(backbone: Any, code: str, folder: Path, base: str, fingerprint: str) -> None:
    """Write one adapter of a backbone, as ``.bin`` and as safetensors.

    Args:
        backbone: with the adapter in it.
        code: the adapter's name.
        folder: made where it is missing.
        base: name of the backbone it was trained in, for the reader.
        fingerprint: of that backbone's weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for safe in (False, True):
        backbone.save_adapter(str(folder), code, use_safetensors=safe)
    content = read_json(folder / CONFIG)
    # The library writes the place the backbone was loaded from.
    content.update({"model_name": base, "base_fingerprint": fingerprint})
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def load_adapter(backbone: Any, code: str, place: str, wanted: Any, fingerprint: str) -> None:
    """Put a trained adapter into a backbone.

    Args:
        backbone: prepared by the library, without an adapter of this name.
        code: the adapter's name in the backbone, whatever it was saved as.
        place: its folder or hub name.
        wanted: the library's configuration it must have.
        fingerprint: of the backbone's weights; an adapter that says it belongs to others is
            refused. Published ones do not say it.

    Raises:
        UserError: there is none, it is for another backbone or of another kind, or its weights
            are damaged, incomplete or hold more than tensors.
    """
    folder = find_adapter(place)
    content = read_json(folder / CONFIG)
    try:
        name, size, found = str(content["name"]), content["hidden_size"], dict(content["config"])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: is no adapter of the AdapterHub library ({error} is missing or "
            "wrong; adapters of other libraries have files of the same name)."
        ) from error
    own = backbone.config
    for key, theirs in (("hidden_size", size), ("model_type", content.get("model_type"))):
        if theirs != getattr(own, key):
            raise UserError(
                f"{folder / CONFIG}: the adapter is for a backbone of {key} {theirs!r}, and this "
                f"one has {getattr(own, key)!r}. Give an adapter that was trained in it."
            )
    known = content.get("base_fingerprint")
    if known not in (None, fingerprint):
        raise UserError(
            f"{folder / CONFIG}: the adapter was trained in {content.get('model_name')}, whose "
            "weights are other ones than those of this backbone: it would give meaningless "
            "vectors. Give the backbone it was trained in; to begin with it all the same, take "
            "`base_fingerprint` out of the file."
        )
    _check_kind(found, wanted, folder / CONFIG)
    adapters = library()
    # From a model with a head every name begins with the model's own.
    renamed = adapters.loading.AdapterLoader(backbone).rename_func(name, code)
    start = f"{backbone.base_model_prefix}."
    state = {renamed(k).removeprefix(start): v for k, v in read_weights(folder).items()}
    before = set(backbone.state_dict())
    backbone.add_adapter(code, wanted)
    expected = set(backbone.state_dict()) - before
    missing, more = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or more:
        raise UserError(
            f"{folder}: {len(missing)} tensors of the adapter are not in its file, and "
            f"{len(more)} in the file have no place in this backbone "
            f"({', '.join([*missing, *more][:2])}, ...). It was trained in another backbone, or "
            "the file is incomplete."
        )
    try:
        backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: the adapter's weights do not fit its configuration: "
            f"{' '.join(str(error).split())}"
        ) from error


def find_adapter(place: str) -> Path:
    """The folder of a trained adapter, or the local copy of one on the hub.

    Raises:
        UserError: there is none.
    """
    from sciembed_train.encoder.loading import find_folder

    folder = find_folder(place, PICKLED)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{place}: holds no {CONFIG}; expected the folder of one adapter.")
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's folder; safetensors where it has them.

    Raises:
        UserError: there are none, or the file is damaged or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / (SAFE if (folder / SAFE).is_file() else PICKLED)
    try:
        if path.name == SAFE:
            return load_file(path)
        with warnings.catch_warnings():
            # torch warns of pickles it did not write, and then refuses them.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: holds neither {SAFE} nor {PICKLED}.") from error
    except pickle.UnpicklingError as error:
        # Not torch's own words: they advise to load it all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        asks = f": it asks for {named[1]}" if named else ""
        raise UserError(
            f"{path}: is no file of tensors that can be read safely{asks}. Fetch the adapter "
            f"again, or get it as {SAFE}."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path}: is damaged ({error}). Fetch the adapter again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no tensors by name, so it is no adapter's file.")
    return dict(state)


def _check_kind(found: dict[str, Any], wanted: Any, where: Path) -> None:
    try:
        given = library().AdapterConfig.load(found).to_dict()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{where}: `config` is none that the library knows ({error}).") from error
    expected = wanted.to_dict()
    free = {key for key in expected if "phm" in key and not expected.get("phm_layer")} - {
        "phm_layer"
    }
    other = sorted(
        key for key in {*given, *expected} - {*_FREE, *free} if given.get(key) != expected.get(key)
    )
    if other:
        described = "; ".join(
            f"{key} {given.get(key)!r}, expected {expected.get(key)!r}" for key in other[:3]
        )
        raise UserError(
            f"{where}: the adapter is of another kind than encoder.adapters.config and reduction "
            f"say: {described}. Set them to the adapter's own."
        )
