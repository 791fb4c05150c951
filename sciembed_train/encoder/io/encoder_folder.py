"""The folder of an encoder: what others load, and what this program records beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.encoder.adapters.adapter_settings import BASE_PLACE
from sciembed_train.encoder.heads import masked_lm_head
from sciembed_train.encoder.io import loading
from sciembed_train.encoder.layer_mix import BACKBONE_PLACE
from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

# Version of what is written into sciembed.json.
FOLDER_VERSION = 1


def save_encoder(encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
    """Write a Hugging Face folder: backbone, tokenizer, ``sciembed.json``.

    With pooling ``mix`` the backbone and its tokenizer go into a sub-folder: the last layer
    alone is not what this encoder gives, so the folder must not load as a plain model. With
    adapters or control codes, too; and each adapter gets a folder in AdapterHub's layout.

    Args:
        encoder: with its weights.
        folder: made where it is missing; files of the same names are replaced.
        record: more entries of ``sciembed.json`` (method, training data, seed, ...).

    Raises:
        UserError: the encoder mixes layers, has adapters or reads control codes, and the folder
            holds a plain model already.
    """
    place = folder
    config, written = encoder.backbone.config, dict(encoder.original_dropouts)
    parts = {}
    coded = encoder.settings.control_codes
    alone = encoder.mix is None and encoder.adapters is None and not coded
    if not alone and (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a plain model already. Give another folder.")
    if coded:
        place = folder / BASE_PLACE
        parts = {"backbone": BASE_PLACE, "control_codes": True}
    if encoder.adapters is not None:
        place = folder / BASE_PLACE
        parts = {"backbone": BASE_PLACE, "adapters": encoder.adapters.settings.metadata()}
    if encoder.mix is not None:
        place = folder / BACKBONE_PLACE
        # So that sentence-transformers hands every layer to its own pooling.
        written["output_hidden_states"] = True
        # A shortest decimal gives back the very same float.
        parts = {"backbone": BACKBONE_PLACE, "mix": encoder.mix.detach()[0].tolist()}
    place.mkdir(parents=True, exist_ok=True)
    trained_with = {name: getattr(config, name) for name in written}
    try:
        for name, value in written.items():
            setattr(config, name, value)
        with loading.quiet_transformers():
            model = encoder.backbone
            if encoder.head is not None:
                model = masked_lm_head.put_together(encoder.backbone, encoder.head)
            if encoder.adapters is not None:
                encoder.adapters.save(encoder.backbone, place, folder)
            else:
                model.save_pretrained(str(place), safe_serialization=True)
    finally:
        for name, value in trained_with.items():
            setattr(config, name, value)
    encoder.tokenizer.hf.model_max_length = encoder.settings.max_length
    encoder.tokenizer.hf.save_pretrained(str(place))
    content = {
        **record,
        "version": FOLDER_VERSION,
        "pooling": encoder.settings.pooling,
        "max_length": encoder.settings.max_length,
        "input_format": encoder.settings.input_format.as_dict(),
        **parts,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "sciembed.json").write_text(text, encoding="utf-8")
