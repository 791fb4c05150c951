"""An encoder inside a training checkpoint: enough to rebuild it without the first backbone.

With adapters, the checkpoint names the frozen backbone and holds only the adapters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.heads.masked_lm_head import MaskedLMHead, check_type
from sciembed_train.encoder.io.load_backbone import (
    build_config,
    check_size,
    load_tokenizer,
    quiet_transformers,
    set_dropout,
)
from sciembed_train.encoder.pooling.registry import check_recorded
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder

CHECKPOINT_VERSION = 1
# Prefix of the encoder's keys in a state: the attribute in which a method keeps it.
STATE_PREFIX = "encoder."
# Prefix of the temporary folder for the tokenizer's files.
SCRATCH = ".tokenizer-"


def describe(encoder: Encoder, scratch: Path | None = None) -> dict[str, Any]:
    """What a checkpoint stores of an encoder besides its weights, as plain values.

    Args:
        encoder: to describe.
        scratch: a folder in which the tokenizer may write temporary files; the machine's
            temporary folder by default.

    Returns:
        ``encoder`` (its settings), ``backbone_config`` and ``tokenizer_files`` (name to text);
        with adapters ``base`` and ``base_fingerprint``, the frozen backbone and its weights' hash.
    """
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch) as folder:
        encoder.tokenizer.hf.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            try:
                files[path.name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a sentencepiece model; tokenizer.json holds all that is used of it
    return {
        **encoder.format_reader.checkpoint_record(),
        "encoder": encoder.settings.as_dict(),
        "backbone_config": encoder.backbone_config(),
        "tokenizer_files": files,
    }


def encoder_from_checkpoint(
    ckpt: Mapping[str, Any],
    where: str = "the checkpoint",
    base: str | None = None,
    pooling: str | None = None,
    merged: bool = True,
) -> Encoder:
    """The trained encoder, from the checkpoint alone; with adapters, from it and the backbone.

    Args:
        ckpt: loaded with ``weights_only=True``; holds ``sciembed`` (as `describe` gave it, with
            ``version``) and ``state_dict`` with the encoder under ``encoder.``.
        where: the file, for messages.
        base: where the backbone of adapters is now, if no longer where it was in training.
        pooling: the checkpoint's, if that is a class outside of this package that is not imported.
        merged: add low-rank updates to the weights.

    Raises:
        UserError: it is no checkpoint of this project, of another version, or incomplete; or the
            backbone of its adapters is not there, or another one.
    """
    from transformers import AutoModel

    record = ckpt.get("sciembed")
    if not isinstance(record, Mapping):
        raise UserError(f"{where}: holds no `sciembed` entry, so it was not made by `train fit`.")
    if record.get("version") != CHECKPOINT_VERSION:
        raise UserError(
            f"{where}: has version {record.get('version')!r}; this program reads version "
            f"{CHECKPOINT_VERSION}. Use the program that wrote it."
        )
    try:
        settings = EncoderSettings.from_dict(dict(record["encoder"]))
        settings = replace(
            settings, attention="auto", compile=False
        )  # for this machine, not the training machine
        if settings.pooling != pooling:
            check_recorded(settings.pooling, where)
        files, values = dict(record["tokenizer_files"]), dict(record["backbone_config"])
        state = {
            key.removeprefix(STATE_PREFIX): value
            for key, value in ckpt["state_dict"].items()
            if key.startswith(STATE_PREFIX)
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: its `sciembed` entry is incomplete ({error}).") from error
    if settings.adapters is not None:
        return _with_adapters(settings, state, where, base)
    if base is not None:
        raise UserError(f"{where}: holds its whole encoder, so no base goes with it; leave it out.")
    config = build_config(values, f"{where}: backbone_config")
    original_dropouts = {} if settings.dropout is None else set_dropout(config, settings.dropout)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            if Path(name).name != name:
                raise UserError(f"{where}: the tokenizer file name {name!r} is no plain name.")
            (Path(folder) / name).write_text(text, encoding="utf-8")
        try:
            tokenizer = load_tokenizer(Path(folder))
        except UserError as error:
            message = str(error).replace(folder, f"{where}: tokenizer_files")
            raise UserError(message) from error
    size = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    check_size(AutoModel, config, size, f"{where}: backbone_config")
    backbone: Any
    head = None
    # Every random number drawn here is replaced below; the caller's generator is left alone.
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        if any(key.startswith("head.") for key in state):
            check_type(config, f"{where}: backbone_config")
            backbone, head = MaskedLMHead.new(config)
        else:
            backbone = AutoModel.from_config(config, trust_remote_code=False).float()
        if not any(key.startswith("backbone.pooler.") for key in state):
            backbone.pooler = None
        encoder = Encoder(
            settings, backbone, tokenizer, original_dropouts=original_dropouts, head=head
        )
    try:
        encoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{where}: its weights do not fit its configuration: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return encoder.eval().merged() if merged else encoder.eval()


def _with_adapters(
    settings: EncoderSettings, state: dict[str, Any], where: str, base: str | None
) -> Encoder:
    """The encoder of a checkpoint that holds only adapters."""
    assert settings.adapters is not None
    place = base or settings.backbone
    fresh = replace(settings, backbone=place, adapters=settings.adapters.without_start())
    try:
        find_folder(place, fetch=base is not None)
        with torch.random.fork_rng(devices=[]):
            encoder = Encoder(fresh)
        encoder.load_state_dict(state, strict=True)
    except UserError as error:
        raise UserError(
            f"{where}: holds adapters to the backbone {settings.backbone}, which must be there "
            f"too, with the same weights (`export --base` names its new place). {error}"
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"{where}: its weights do not fit its configuration: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return encoder.eval()
