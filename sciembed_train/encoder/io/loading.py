"""Find, check and load a backbone and what its folder says about pooling and length."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.layer_mix import read_mix
from sciembed_train.errors import UserError
from sciembed_train.safety import check_config, check_config_json, read_json, weight_format
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

log = logging.getLogger("sciembed_train")

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]
# Poolings that a module of sentence-transformers does and this project too.
_MODULE_POOLINGS = ("cls", "mean")
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass
class ModelMetadata:
    """What a model folder says about itself; None where it says nothing.

    Args:
        backbone: folder of the transformer itself.
        pooling: how its vectors were pooled.
        max_length: tokens a text may have, special tokens included.
        input_format: how title and abstract were joined.
        similarity: by what its vectors are compared, as the folder names it.
        texts: what it was trained to read: ``sentences`` each by itself, else whole papers.
        transport: settings of optimal transport, where its sentences are compared by it.
        mix: weights of a learned mix of the layers, before the softmax.
        adapters: of the backbone, with the folders they lie in.
        control_codes: whether it reads each text with the code of its format before it.
        notes: what the folder asks for that is not done here.
    """

    backbone: Path
    pooling: str | None = None
    max_length: int | None = None
    input_format: InputFormat | None = None
    similarity: str | None = None
    texts: str | None = None
    transport: dict[str, Any] | None = None
    mix: list[float] | None = None
    adapters: AdapterSettings | None = None
    control_codes: bool = False
    notes: list[str] = field(default_factory=list)


def find_folder(name_or_folder: str | Path, pickled: str = "*pytorch_model*.bin") -> Path:
    """The folder itself, or the local copy of a hub model, fetched where the network is allowed.

    Args:
        name_or_folder: what is wanted.
        pickled: the weights' files where the hub has no safetensors.

    Raises:
        UserError: neither a folder nor a hub model that can be had.
    """
    text = str(name_or_folder)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{text}: is a file; expected the folder of a model, or a hub name.")
    if not _HUB_NAME.fullmatch(text):
        raise UserError(f"{text}: there is no such folder; expected a model's folder or hub name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        # The patterns' stars match slashes too: a backbone may lie in a sub-folder.
        found = snapshot_download(text, allow_patterns=[*_SMALL_FILES, "*.safetensors"])
        if not any(Path(found).rglob("*.safetensors")):
            found = snapshot_download(text, allow_patterns=[*_SMALL_FILES, pickled])
    except HFValidationError as error:
        raise UserError(f"{text}: no such folder, and no hub name either ({error}).") from error
    except (OSError, HfHubHTTPError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = (
            "HF_HUB_OFFLINE is set, and the local hub cache has no whole copy of it"
            if offline
            else f"it could not be fetched: {(str(error).strip() or repr(error)).splitlines()[0]}"
        )
        raise UserError(
            f"{text}: there is no such folder, and it is no model of the hub that "
            f"can be had here: {why}. Check the name, "
            "allow the network once, or give the folder of a downloaded model."
        ) from error
    return Path(found)


def _pooling_of(config: dict[str, Any], where: Path) -> str:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in _LEGACY_POOLING.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in _MODULE_POOLINGS:
        raise UserError(
            f"{where}: pools by {' + '.join(map(str, modes)) or 'nothing'}; this project has "
            f"{' and '.join(_MODULE_POOLINGS)} of these. Name the pooling to use instead."
        )
    return modes[0]


def _read_sentence_transformers(folder: Path, pooling: str | None) -> ModelMetadata:
    """Pooling and length of a sentence-transformers folder, old layout or new."""
    where = folder / "modules.json"
    modules = read_json(where)
    try:
        parts = [(str(m["type"]).rsplit(".", 1)[-1], str(m["path"])) for m in modules]
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{where}: expected a list of objects with `type` and `path`. Fetch the model again."
        ) from error
    for kind, path in parts:
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{where}: the path {path!r} of {kind} leads out of the folder.")
    if not parts or parts[0][0] != "Transformer":
        first = parts[0][0] if parts else "nothing"
        raise UserError(f"{where}: the first module is {first}; expected Transformer.")
    metadata = ModelMetadata(folder / parts[0][1], pooling)
    pooled = False
    for kind, path in parts[1:]:
        if kind == "Pooling" and not pooled:
            pooled = True
            config = folder / path / "config.json"
            metadata.pooling = pooling or _pooling_of(read_json(config), config)
        elif kind == "Normalize":
            metadata.notes.append(
                f"{where} ends in Normalize, which is left out: vectors keep their lengths here."
            )
        else:
            raise UserError(
                f"{where}: the module {kind} is not one that this project runs; it runs "
                "Transformer, Pooling (cls or mean) and no other."
            )
    about = folder / "config_sentence_transformers.json"
    if about.is_file():
        content = read_json(about)
        name = content.get("similarity_fn_name") if isinstance(content, dict) else None
        metadata.similarity = None if name is None else str(name)
    for name in ("sentence_bert_config.json", "sentence_roberta_config.json"):
        path = metadata.backbone / name
        limit = read_json(path).get("max_seq_length") if path.is_file() else None
        if isinstance(limit, int):
            metadata.max_length = limit
    tokenizer = metadata.backbone / "tokenizer_config.json"
    if metadata.max_length is None and tokenizer.is_file():
        # sentence-transformers 5.7 and newer keep the length there alone. Tokenizers without a
        # limit carry a huge number.
        limit = read_json(tokenizer).get("model_max_length")
        if isinstance(limit, int) and limit < 1_000_000:
            metadata.max_length = limit
    return metadata


def read_metadata(folder: Path, pooling: str | None = None) -> ModelMetadata:
    """What ``sciembed.json``, else a sentence-transformers layout, says of a model folder.

    Args:
        folder: the model's folder.
        pooling: takes the place of the recorded one, which may then be one that is not built.

    Raises:
        UserError: a file is malformed or asks for what is not built.
    """
    metadata = ModelMetadata(folder)
    _refuse_half(folder)
    own = folder / "sciembed.json"
    content: Any = read_json(own) if own.is_file() else {}
    # One that gives a vector per sentence has modules for which there is no such thing.
    several = isinstance(content, dict) and content.get("pooling") == "sentences"
    if (folder / "modules.json").is_file() and not several:
        metadata = _read_sentence_transformers(folder, pooling)
    if own.is_file():
        try:
            metadata.pooling = pooling or content["pooling"]
            metadata.max_length = int(content["max_length"])
            metadata.input_format = InputFormat(**content["input_format"])
            # Older folders do not say it: all of them were trained for Euclidean distance.
            metadata.similarity = str(content.get("similarity") or "euclidean")
            metadata.texts = None if content.get("texts") is None else str(content["texts"])
            metadata.transport = dict(content["transport"]) if content.get("transport") else None
            metadata.control_codes = content.get("control_codes") is True
            place = str(content.get("backbone") or "")
            if content.get("adapters") is not None:
                metadata.adapters = AdapterSettings.from_folder(content["adapters"], folder)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"{own}: `pooling`, `max_length` or `input_format` is missing, or one of them, "
                f"`transport` or `adapters` is wrong ({error}). Export the model again."
            ) from error
        if not (folder / place).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{own}: `backbone` is {place!r}, which leads out of the folder.")
        metadata.backbone = folder / place if place else metadata.backbone
        metadata.mix = read_mix(content, own)
    return metadata


def _refuse_half(folder: Path) -> None:
    """Refuse ``st/`` and ``hf/`` of an encoder's folder, which are for other libraries."""
    above = folder.resolve().parent / "sciembed.json"
    if folder.resolve().name in ("st", "hf") and above.is_file():
        raise UserError(
            f"{folder}: is the part of an exported encoder that is meant for other libraries; give "
            f"the folder that holds it, {above.parent}."
        )


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
    names = [
        name
        for name in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "dropout",
            "attention_dropout",
            "activation_dropout",
            "hidden_dropout",
            "embedding_dropout",
            "mlp_dropout",
        )
        if isinstance(getattr(config, name, None), float | int)
    ]
    old = {name: getattr(config, name) for name in names}
    for name in names:
        setattr(config, name, dropout)
    return old


def load_model(kind: Any, folder: Path, config: Any) -> tuple[Any, list[str]]:
    """A model of a checked folder in fp32, and the names of tensors that its file lacks.

    Args:
        kind: the ``transformers`` class to load with, such as ``AutoModel``.
        folder: holds the weights.
        config: the folder's configuration, checked.

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


def tokenizer_folder(name_or_folder: str | Path) -> Path:
    """Where a model's tokenizer lies: beside its backbone, which may be in a sub-folder.

    Raises:
        UserError: as for `find_folder` and `read_metadata`.
    """
    folder = find_folder(name_or_folder)
    # Only the place is asked for: a pooling that is not built is told when the encoder is made.
    return read_metadata(folder, pooling="mean").backbone


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
