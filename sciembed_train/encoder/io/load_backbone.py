"""Check and load a backbone of ``transformers``, its configuration and its tokenizer."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sciembed_train.encoder.io.config_versions import for_installed
from sciembed_train.errors import UserError
from sciembed_train.safety.model_config import check_config_json, clean_config
from sciembed_train.safety.weights import weight_bytes, weight_format
from sciembed_train.text.tokenizer import TextTokenizer

# Parameters of a model that fits into any machine's memory.
HARMLESS = 20_000_000


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and reports while loading: what matters in them is checked and reported here."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


# Entries of a configuration that are dropouts, whatever its type.
DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("dropout", "attention_dropout", "activation_dropout", "hidden_dropout"),
    *("embedding_dropout", "mlp_dropout"),
)


def build_config(values: dict[str, Any], where: str) -> Any:
    """The ``transformers`` configuration of the content of a ``config.json``.

    Raises:
        UserError: refused by `clean_config` or `for_installed`, or ``transformers`` makes no
            configuration of it.
    """
    from transformers import AutoConfig

    values = clean_config(values, where)
    model_type = values.pop("model_type")
    values = for_installed(model_type, values, where)
    try:
        return AutoConfig.for_model(model_type, **values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{where}: transformers cannot build a model of `model_type` {model_type!r}: "
            f"{(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error


def check_size(kind: Any, config: Any, size: int, where: str) -> None:
    """Refuse a configuration that no model can be built from, or a large one without its weights.

    The model is built without memory, so that an absurd size costs none. A small one is left to
    the loading of the weights, which names the missing tensors.

    Args:
        kind: class of the model, such as ``AutoModel``.
        config: cleaned.
        size: bytes of the weights. Each parameter takes at least one.
        where: the configuration's place, for messages.

    Raises:
        UserError: it cannot be built, or has many more parameters than there are bytes.
    """
    try:
        with torch.device("meta"), quiet_transformers():
            model = kind.from_config(copy.deepcopy(config), trust_remote_code=False)
    except (ValueError, TypeError, AttributeError, KeyError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"{where}: transformers cannot build a model of it: "
            f"{(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error
    base = getattr(model, model.base_model_prefix, model)
    # A pooler or a head may be missing from the weights.
    count = sum(p.numel() for name, p in base.named_parameters() if not name.startswith("pooler."))
    if count > max(size, HARMLESS):
        raise UserError(
            f"{where}: describes a model of {count:,} parameters, but its weights have {size:,} "
            "bytes in all. The two do not belong together; fetch the model again."
        )


def set_dropout(config: Any, dropout: float) -> dict[str, float]:
    """Put one dropout into every dropout entry of a configuration; returns the old values."""
    names = [name for name in DROPOUTS if isinstance(getattr(config, name, None), float | int)]
    old = {name: getattr(config, name) for name in names}
    for name in names:
        setattr(config, name, dropout)
    return old


def load_model(kind: Any, folder: Path, config: Any) -> tuple[Any, list[str]]:
    """A model of a checked folder in fp32, and the names of tensors that its file lacks.

    Raises:
        UserError: the weights are unreadable or of other shapes.
    """
    file_format = weight_format(folder)
    check_size(kind, config, weight_bytes(folder), str(folder / "config.json"))
    try:
        with quiet_transformers():
            loaded = kind.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                use_safetensors=file_format == "safetensors",
                weights_only=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **_renamed(kind, config),
            )
    except (OSError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{folder}: its weights could not be loaded: "
            f"{(str(error).strip() or repr(error)).splitlines()[0]} "
            "Only safetensors, and .bin files that hold nothing but tensors, are read."
        ) from error
    except Exception as error:  # safetensors raises its own type, which is no ValueError
        if type(error).__name__ != "SafetensorError":
            raise
        raise UserError(f"{folder}: its safetensors file is damaged ({error}).") from error
    model, info = loaded
    refuse_missing(folder, [], sorted(str(m) for m in info["mismatched_keys"]))
    return model, sorted(info["missing_keys"])


def _renamed(kind: Any, config: Any) -> dict[str, Any]:
    """How to rename tensors from the weights of the same model with its language head.

    ``transformers`` does so for other decoders (``base_model_prefix``), but not for Gemma.
    """
    from transformers import AutoModel

    if kind is AutoModel and config.model_type == "gemma3_text":
        return {"key_mapping": {r"^model\.": ""}}
    return {}


def refuse_missing(folder: Path, missing: list[str], mismatched: list[str] | None = None) -> None:
    """Refuse weights that would be random.

    Raises:
        UserError: there are any.
    """
    if missing or mismatched:
        named = ", ".join((missing or mismatched or [])[:3])
        raise UserError(
            f"{folder}: {len(missing)} tensors that the model needs are not in its weights and "
            f"{len(mismatched or [])} have another shape ({named}, ...). They would be random; "
            "give a folder with the whole model."
        )


def load_backbone(folder: Path, config: Any) -> nn.Module:
    """The model of a checked folder in fp32, with every tensor from the file.

    A pooler that the file lacks is left out, since its random weights would be exported.

    Raises:
        UserError: the weights are unreadable, incomplete or of other shapes.
    """
    from transformers import AutoModel

    backbone, missing = load_model(AutoModel, folder, config)
    refuse_missing(folder, [name for name in missing if not name.startswith("pooler.")])
    if missing:
        backbone.pooler = None
    return backbone


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The folder's tokenizer.

    Raises:
        UserError: there is none that can be used.
    """
    with quiet_transformers():
        return TextTokenizer.load(folder)


def checked_config(folder: Path) -> Any:
    """The ``transformers`` configuration of a folder, checked before it was built.

    Raises:
        UserError: as `build_config` and `check_config_json`.
    """
    return build_config(check_config_json(folder), str(folder / "config.json"))
