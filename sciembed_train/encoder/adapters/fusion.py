"""Fusions of adapters: they weight the outputs of several adapters at each token.

Pfeiffer, Kamath, Rücklé, Cho and Gurevych (2021), "AdapterFusion: Non-Destructive Task Composition
for Transfer Learning", section 3; by the library ``adapters``. In each layer, with ``h_t`` the
states that the adapters read at a token, ``z_n`` what adapter ``n`` adds to them, and ``r`` the
states that it is added to: ``s_n = softmax_n((Q h_t + q) . (K z_n + k))`` and
``o_t = sum_n s_n V z_n + r``. ``V`` starts at the identity; ``static`` has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sciembed_train.encoder.adapters.adapter_files import (
    add_entries,
    check_base,
    find_adapter,
    put_in,
    read_weights,
)
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings, library
from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json
from sciembed_train.safety.model_config import check_keys
from sciembed_train.text.input_format import FORMATS

CONFIG = "adapter_fusion_config.json"
SAFE = "model_adapter_fusion.safetensors"
PICKLED = "pytorch_model_adapter_fusion.bin"


def fusion_code(settings: AdapterSettings, name: str) -> str:
    """The library's own name of a format's fusion: its adapters' with commas between.

    The format's own adapter comes first, as published; so the names differ.
    """
    others = [n for n in FORMATS if n in settings.adapted and n != name]
    return ",".join(FORMATS[n] for n in (name, *others))


def add_fusions(
    backbone: Any, settings: AdapterSettings, start: Mapping[str, str], fingerprint: str
) -> None:
    """Put a fusion for each format into a backbone that has all the adapters.

    Args:
        backbone: prepared by the library.
        settings: with a fusion.
        start: folder of a trained fusion, by format; the others are new.
        fingerprint: of the frozen backbone's weights.

    Raises:
        UserError: the library has no such fusion, or a trained one is not of this backbone, of
            these adapters and of this kind.
    """
    adapters = library()
    known = adapters.ADAPTERFUSION_CONFIG_MAP
    if settings.fusion not in known:
        raise UserError(
            f"encoder.adapters.fusion is {settings.fusion!r}; the library adapters has "
            f"{', '.join(sorted(known))}."
        )
    if adapters.AdapterConfig.load(settings.config).architecture is not None:
        raise UserError(
            f"encoder.adapters.config is {settings.config!r}, and the library fuses bottleneck "
            "adapters alone, such as seq_bn: set encoder.adapters.fusion to null."
        )
    for name in settings.formats:
        codes = fusion_code(settings, name).split(",")
        names_before = set(backbone.state_dict())
        backbone.add_adapter_fusion(adapters.Fuse(*codes), settings.fusion)
        expected = set(backbone.state_dict()) - names_before
        if name in start:
            _load(backbone, settings, name, start[name], expected, fingerprint)


def save_fusion(
    backbone: Any, settings: AdapterSettings, name: str, folder: Path, base: str, fingerprint: str
) -> None:
    """Write a format's fusion, as ``.bin`` and as safetensors.

    The folder is made where it is missing; ``fingerprint`` is of the frozen backbone's weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = fusion_code(settings, name)
    for safe in (False, True):
        backbone.save_adapter_fusion(str(folder), code, use_safetensors=safe)
    # Without the prefix, the library's models with heads silently leave a fusion random; with it,
    # all its models find the weights.
    prefix = f"{backbone.base_model_prefix}."
    state = {f"{prefix}{key}": v for key, v in read_weights(folder, SAFE, PICKLED).items()}
    torch.save(state, folder / PICKLED)
    save_file(state, folder / SAFE, metadata={"format": "pt"})
    add_entries(
        folder / CONFIG,
        model_name=base,
        base_fingerprint=fingerprint,
        adapters_fingerprint=adapters_fingerprint(backbone, settings),
    )


def adapters_fingerprint(backbone: Any, settings: AdapterSettings) -> str:
    """SHA-256 of the adapters that the fusions read, whatever their order."""
    state = backbone.state_dict()
    parts = []
    for code in sorted(FORMATS[name] for name in settings.adapted):
        for key in sorted(key for key in state if f".{code}." in key):
            values = state[key].detach().float().cpu().contiguous()
            parts.append(hashlib.sha256(f"{key} {tuple(values.shape)}".encode()).digest())
            parts.append(hashlib.sha256(values.numpy().tobytes()).digest())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _load(
    backbone: Any,
    settings: AdapterSettings,
    name: str,
    place: str,
    expected: set[str],
    fingerprint: str,
) -> None:
    """Give a format's fusion the weights of a trained one."""
    folder = find_adapter(place, CONFIG, PICKLED, "fusion of adapters")
    content = read_json(folder / CONFIG)
    check_keys(content, str(folder / CONFIG))
    try:
        saved_name, config = str(content["name"]), dict(content["config"])
        fused = [str(code) for code in content["adapter_names"]]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: is no fusion of the AdapterHub library ({error} is missing or "
            "wrong)."
        ) from error
    check_base(content, folder / CONFIG, backbone, fingerprint)
    code = fusion_code(settings, name)
    if set(fused) != set(code.split(",")):
        raise UserError(
            f"{folder / CONFIG}: the fusion is of the adapters {', '.join(fused)}, and here are "
            f"{code}. Set encoder.adapters.fused to the fusion's own."
        )
    if content.get("adapters_fingerprint") not in (None, adapters_fingerprint(backbone, settings)):
        raise UserError(
            f"{folder / CONFIG}: the fusion was trained over adapters of these names with other "
            "weights. Give the adapters that it was trained over."
        )
    _check_kind(config, settings, folder / CONFIG)
    layer = "adapter_fusion_layer."
    start = f"{backbone.base_model_prefix}."
    state = {
        key.replace(f"{layer}{saved_name}.", f"{layer}{code}.").removeprefix(start): value
        for key, value in read_weights(folder, SAFE, PICKLED).items()
    }
    put_in(backbone, state, expected, folder, "fusion")


def _check_kind(config: dict[str, Any], settings: AdapterSettings, path: Path) -> None:
    wanted = library().ADAPTERFUSION_CONFIG_MAP[settings.fusion].to_dict()
    # These set how it is initialised or trained.
    free = {"regularization", "value_initialized", "dropout_prob"}
    differing = sorted(key for key in set(wanted) - free if config.get(key) != wanted[key])
    if differing:
        unequal = "; ".join(
            f"{key} {config.get(key)!r}, expected {wanted[key]!r}" for key in differing
        )
        raise UserError(
            f"{path}: the fusion is of another kind than encoder.adapters.fusion says: {unequal}."
        )
