"""The folder of an encoder: what other libraries load, and what this program records with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sciembed_train.encoder.heads.projection import save_projection
from sciembed_train.encoder.heads.projection_files import FOLDER
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.parts import EncoderParts
from sciembed_train.errors import UserError

# Version of what is written into sciembed.json.
FOLDER_VERSION = 1


def backbone_place(parts: EncoderParts) -> str:
    """The sub-folder of the backbone; empty where it lies at the top."""
    return parts.format_reader.backbone_place or parts.pooling.backbone_place


def save_encoder(parts: EncoderParts, folder: Path, record: dict[str, Any]) -> None:
    """Write a Hugging Face folder: backbone, tokenizer, ``sciembed.json``.

    Where the backbone alone would give other vectors than the encoder (pooling ``mix``, adapters,
    control codes), it goes with its tokenizer into a sub-folder, so that the folder does not load
    as a plain model.

    Args:
        parts: of the encoder, with its weights.
        folder: made where it is missing; files of the same names are replaced.
        record: more entries of ``sciembed.json`` (method, training data, seed, ...).

    Raises:
        UserError: the backbone goes into a sub-folder, and the folder holds a plain model already.
    """
    place = backbone_place(parts)
    if place and (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a plain model already. Give another folder.")
    (folder / place).mkdir(parents=True, exist_ok=True)
    config = parts.backbone.config
    saved = {**parts.original_dropouts, **parts.pooling.saved_config}
    trained_with = {name: getattr(config, name) for name in saved}
    try:
        for name, value in saved.items():
            setattr(config, name, value)
        with quiet_transformers():
            model = parts.backbone
            if parts.head is not None:
                model = parts.head.joined_to(parts.backbone)
            entries = parts.format_reader.save(parts.backbone, model, folder / place, folder)
    finally:
        for name, value in trained_with.items():
            setattr(config, name, value)
    parts.tokenizer.hf.model_max_length = parts.settings.max_length
    parts.tokenizer.hf.save_pretrained(str(folder / place))
    content = {
        **record,
        "version": FOLDER_VERSION,
        "pooling": parts.settings.pooling,
        "max_length": parts.settings.max_length,
        "input_format": parts.settings.input_format.as_dict(),
        **({"normalize": True} if parts.settings.normalize else {}),
        **({"projection": parts.settings.projection} if parts.projection is not None else {}),
        **({"prompts": parts.settings.prompts} if parts.settings.prompts else {}),
        **({"backbone": place} if place else {}),
        **entries,
        **parts.pooling.save(folder),
    }
    if parts.projection is not None:
        save_projection(parts.projection, folder / FOLDER)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "sciembed.json").write_text(text, encoding="utf-8")
