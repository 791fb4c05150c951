"""Check and load a backbone of ``transformers``, its configuration and its tokenizer."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sciembed_train.errors import UserError
from sciembed_train.safety import check_config, check_config_json, weight_format
from sciembed_train.text.tokenizer import TextTokenizer


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and reports while loading: what matters of them is checked and said here."""
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
    """The ``transformers`` configuration of a checked ``config.json``.

    Raises:
        UserError: refused, of an unknown model type, or not an encoder.
    """
    check_config(values, where)
    from transformers import AutoConfig

    values = dict(values)
    model_type = values.pop("model_type", None)
    try:
        config = AutoConfig.for_model(model_type, **values)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: transformers cannot build a model of `model_type` {model_type!r}: "
            f"{(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{where}: {model_type} is an encoder-decoder; expected an encoder.")
    return config


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
