"""The part of a foreign model's configuration that ``transformers`` sees: what a family lists.

``config.json`` is data, but some keys make ``transformers`` import, fetch and run code even with
``trust_remote_code=False``: another attention (CVE-2026-4372), or a nested loader of some model
types. So nothing but listed types with listed keys passes, as values that fit.
"""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES, UNUSED, Family
from sciembed_train.safety.json_files import read_json
from sciembed_train.safety.values import entries

log = logging.getLogger("sciembed_train")

# Attention that ships inside transformers. Any other name may be that of a kernel on the hub, and
# for flash_attention_2 and _3 transformers takes one from there where flash-attn is not installed.
_OWN_ATTENTION = {None, "eager", "sdpa", "flex_attention"}
_ATTENTION_KEYS = ("_attn_implementation", "attn_implementation")
_LOADS = "makes transformers load another model or its code"
_FETCHES = "can make transformers fetch and run code"
_OWN_CODE = "asks for the model's own Python code to be run"
# Refused at any depth, whatever the model type, and not only left out: whoever wrote them wants
# more than an encoder, and the model without them may be another one.
LOADING_KEYS = {
    "_attn_implementation_internal": _FETCHES,
    "_experts_implementation_internal": _FETCHES,
    "experts_implementation": _FETCHES,
    "kernel_config": _FETCHES,
    "use_kernels": _FETCHES,
    "auto_map": _OWN_CODE,
    "code_revision": _OWN_CODE,
    "custom_generate": _OWN_CODE,
    "custom_pipelines": _OWN_CODE,
    "trust_remote_code": _OWN_CODE,
    "backbone": _LOADS,
    "backbone_config": _LOADS,
    "backbone_kwargs": _LOADS,
    "base_model_name_or_path": _LOADS,
    "keypoint_detector_config": _LOADS,
    "pretrained_model_name_or_path": _LOADS,
    "timm_config": _LOADS,
    "use_pretrained_backbone": _LOADS,
    "use_timm_backbone": _LOADS,
    "gguf_file": "names another weight file than the usual one",
    "transformers_weights": "names another weight file than the usual one",
    "quantization_config": "asks for quantised weights, which cannot be trained here",
}


def check_keys(content: Any, where: str) -> None:
    """Refuse what makes ``transformers`` run code or load more than the folder's own weights.

    Args:
        content: parsed JSON: a configuration of a model, a tokenizer or an adapter.
        where: the file, for the message.

    Raises:
        UserError: it is no object, or holds a refused key at any depth.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(content).__name__}.")
    for path, key, value in entries(content):
        if key in LOADING_KEYS and value is not None:
            raise UserError(
                f"{where}: the key `{path}` {LOADING_KEYS[key]}, so the model is refused. "
                "Use a model that transformers runs without code of its own; if you trust this "
                "one and it works without the key, remove the key."
            )
        if key in _ATTENTION_KEYS:
            name = value if isinstance(value, str | None) else json.dumps(value)
            if name not in _OWN_ATTENTION:
                raise UserError(f"{where}: `{path}` is {name!r}, which {_FETCHES}. Remove the key.")


def family_of(content: dict[str, Any], where: str) -> Family:
    """The family of a configuration.

    Raises:
        UserError: its model type is not listed.
    """
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        fault = "has no `model_type`" if model_type is None else f"`model_type` is {model_type!r}"
        raise UserError(
            f"{where}: {fault}; the encoders that are read are of the types "
            f"{', '.join(sorted(FAMILIES))}. Give a model of one of them."
        )
    return FAMILIES[model_type]


def clean_config(content: Any, where: str) -> dict[str, Any]:
    """A configuration with the keys of its family alone, each with a value that fits.

    Other keys are left out, and named in a warning where no other program is known to write them.

    Args:
        content: the parsed JSON of a ``config.json``.
        where: the file, for messages.

    Returns:
        The entries, ``model_type`` among them.

    Raises:
        UserError: `check_keys` or `family_of` refuses it, or a value is none that an encoder has.
    """
    check_keys(content, where)
    if content.get("is_encoder_decoder") is True:
        raise UserError(
            f"{where}: `is_encoder_decoder` is true, so it is no encoder. Give an encoder."
        )
    family = family_of(content, where)
    entries: dict[str, Any] = {"model_type": family.model_type}
    unknown = []
    for key, value in content.items():
        check = family.keys.get(key)
        if check is None:
            if key not in (*UNUSED, *_ATTENTION_KEYS, "model_type"):
                unknown.append(key)
            continue
        expected = check(value)
        if expected:
            raise UserError(f"{where}: `{key}` is {_short(value)}; expected {expected}.")
        entries[key] = value
    _check_padding(entries, where)
    _check_heads(entries, where)
    if unknown:
        why = f"not among the keys that a model of type {family.model_type} may have here"
        say_left_out(where, tuple(sorted(unknown)), why)
    return entries


def _check_heads(config: dict[str, Any], where: str) -> None:
    heads, keys = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(keys, int) and heads % keys:
        raise UserError(
            f"{where}: `num_key_value_heads` is {keys}; expected a divisor of the {heads} of "
            "`num_attention_heads`, which share them."
        )


def _check_padding(config: dict[str, Any], where: str) -> None:
    padding, vocabulary = config.get("pad_token_id"), config.get("vocab_size")
    if isinstance(padding, int) and isinstance(vocabulary, int) and padding >= vocabulary:
        raise UserError(
            f"{where}: `pad_token_id` is {padding}; expected one of the {vocabulary:,} tokens of "
            "`vocab_size`."
        )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.lru_cache(maxsize=1000)  # once a file, however often it is read
def say_left_out(where: str, keys: tuple[str, ...], why: str) -> None:
    """Warn of keys that are not passed on."""
    named = ", ".join(f"`{key}`" for key in keys[:10]) + (", ..." if len(keys) > 10 else "")
    log.warning(f"{where}: left out {named}: {why}.")


def check_config_json(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``, cleaned.

    Raises:
        UserError: a file is missing, not JSON, or refused by `clean_config`.
    """
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder}: holds adapter_config.json, so it is an adapter; give the folder of the "
            "whole model it belongs to, or one that it was merged into."
        )
    if not path.is_file():
        raise UserError(f"{folder}: holds no config.json; give the folder of a whole model.")
    return clean_config(read_json(path), str(path))
