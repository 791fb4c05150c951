"""From an encoder's settings to its parts: those of the folder they name, or new ones."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from sciembed_train.encoder.adapters.control_codes import ControlCodes, add_codes
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters
from sciembed_train.encoder.adapters.lora import install_lora
from sciembed_train.encoder.format_reader import BASE_PLACE, FormatReader
from sciembed_train.encoder.heads.masked_lm_head import HEADS, MaskedLMHead, check_type
from sciembed_train.encoder.heads.projection import load_projection, new_projection
from sciembed_train.encoder.io.load_backbone import (
    checked_config,
    load_backbone,
    load_tokenizer,
    set_dropout,
)
from sciembed_train.encoder.io.model_metadata import ModelMetadata, read_metadata
from sciembed_train.encoder.parts import EncoderParts
from sciembed_train.encoder.pooling.base import Pooling, pooling_class
from sciembed_train.encoder.pooling.registry import POOLINGS
from sciembed_train.encoder.settings import (
    EncoderSettings,
    is_causal,
    position_limit,
)
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

log = logging.getLogger("sciembed_train")


def open_parts(settings: EncoderSettings, masked_lm: bool | Literal["auto"]) -> EncoderParts:
    """The parts of the folder that the settings name.

    Args:
        settings: which backbone, and with which dropout.
        masked_lm: as for `Encoder`.

    Raises:
        UserError: the backbone cannot be loaded safely and completely, does not fit the settings,
            or has no mask token where one is needed.
    """
    metadata = read_metadata(find_folder(settings.backbone), settings.pooling)
    recorded = _recorded_pooling(metadata)
    _warn_of_parts_left_out(settings, metadata, recorded)
    config = checked_config(metadata.backbone)
    for key in recorded.saved_config if recorded else ():
        setattr(config, key, getattr(type(config)(), key))  # saved only for other libraries
    tokenizer = load_tokenizer(metadata.backbone)
    if masked_lm is True:  # before the weights are read, which takes long
        check_type(config, settings.backbone)
        _check_mask_token(tokenizer, settings.backbone)
    original_dropouts = {}
    if settings.dropout is not None:
        original_dropouts = set_dropout(config, settings.dropout)
    backbone = head = None
    if masked_lm and config.model_type in HEADS:
        backbone, head = MaskedLMHead.load(metadata.backbone, config, make=masked_lm is True)
    if backbone is None:
        backbone = load_backbone(metadata.backbone, config)
    return assemble(settings, backbone, tokenizer, head, original_dropouts, metadata)


def assemble(
    settings: EncoderSettings,
    backbone: Any,
    tokenizer: TextTokenizer,
    head: MaskedLMHead | None = None,
    original_dropouts: dict[str, float] | None = None,
    metadata: ModelMetadata | None = None,
) -> EncoderParts:
    """The parts of an encoder around a backbone.

    Args:
        settings: of the encoder.
        backbone: loaded; codes and adapters are put into it.
        tokenizer: the backbone's.
        head: the backbone's.
        original_dropouts: the backbone's own, if training uses others.
        metadata: of the folder, whose pooling and adapters are taken where the settings have them.

    Raises:
        UserError: the backbone does not fit the settings.
    """
    if is_causal(backbone.config):
        _check_causal(settings, backbone.config)
    if settings.control_codes:
        tokenizer = add_codes(backbone, tokenizer)
    pooling = pooling_of(settings, backbone.config, metadata)
    check_fit(settings, backbone, tokenizer)
    reader = FormatReader(settings.backbone)
    if settings.control_codes:
        reader = ControlCodes(settings.backbone, tokenizer, settings.max_length)
    elif settings.adapters is not None:
        if head is not None:
            raise UserError(
                "encoder.adapters freezes the backbone, which masked language modelling trains: "
                "set one of them to null or false."
            )
        recorded_adapters = metadata and metadata.adapters
        reader = FormatAdapters(backbone, settings.adapters, settings.backbone, recorded_adapters)
    if settings.lora is not None:
        install_lora(backbone, settings.lora, settings.backbone)
    return EncoderParts(
        settings,
        backbone,
        tokenizer,
        pooling,
        reader,
        head,
        dict(original_dropouts or {}),
        projection_of(settings, backbone.config, metadata),
    )


def recorded_settings(
    folder: str | Path,
    pooling: str | None = None,
    max_length: int | None = None,
    input_format: InputFormat | None = None,
    **settings: Any,
) -> EncoderSettings:
    """The settings of an encoder as a folder or hub name records them; see `Encoder.load`.

    Raises:
        UserError: there is no such model, or what it records is not supported.
    """
    metadata = read_metadata(find_folder(folder), pooling)
    for note in metadata.notes:
        log.warning(note)
    recorded = metadata.record.get("pooling")
    if pooling is not None and pooling != recorded and pooling_class(pooling).learned:
        log.warning(
            f"{folder}: has no weights of the pooling {pooling}, so new ones are made, "
            "which are not trained."
        )
    config = checked_config(metadata.backbone)
    recorded_length = metadata.max_length or 512
    # Qwen3-Embedding's tokenizer says 131,072, and its backbone has positions for 32,768.
    longest = min(recorded_length, position_limit(config) or recorded_length)
    values: dict[str, Any] = {
        "pooling": pooling or metadata.pooling or ("last" if is_causal(config) else "cls"),
        "max_length": max_length or longest,
        "input_format": input_format
        or metadata.input_format
        or InputFormat(prompt=metadata.prompt),
        # A pooling that the caller names may be one whose vectors are never scaled.
        "normalize": metadata.normalize and pooling not in ("mix", "sentences"),
        "projection": metadata.projection
        if pooling in (None, metadata.projected_pooling)
        else None,
        "prompts": metadata.prompts,
        "adapters": metadata.adapters and metadata.adapters.without_start(),
        "control_codes": metadata.control_codes,
    }
    return replace(EncoderSettings(str(folder)), **{**values, **settings})


def check_fit(settings: EncoderSettings, backbone: Any, tokenizer: TextTokenizer) -> None:
    """See that lengths, positions and vocabularies fit one another.

    Raises:
        UserError: they do not.
    """
    check_length(settings, backbone.config, tokenizer)
    table = backbone.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.hf.get_vocab().values())
    if largest >= table:
        raise UserError(
            f"{settings.backbone}: the tokenizer has ids up to {largest}, but the backbone has "
            f"embeddings for {table} tokens only (ids up to {table - 1}); they do not belong "
            "together. Use the backbone's own tokenizer."
        )


def check_length(settings: EncoderSettings, config: Any, tokenizer: TextTokenizer) -> None:
    """See that the longest text fits the positions of a backbone, and the special tokens a text.

    Raises:
        UserError: they do not.
    """
    limit = position_limit(config)
    if limit is not None and settings.max_length > limit:
        raise UserError(
            f"encoder.max_length is {settings.max_length}, but {settings.backbone} has "
            f"positions for {limit} tokens; set encoder.max_length to {limit} or less."
        )
    extra = len(tokenizer.prefix) + len(tokenizer.suffix)
    if settings.max_length <= extra:
        raise UserError(
            f"encoder.max_length is {settings.max_length}, but the special tokens alone take "
            f"{extra}; use {extra + 1} or more."
        )


def _check_causal(settings: EncoderSettings, config: Any) -> None:
    """Refuse settings that a decoder cannot meet.

    Raises:
        UserError: there are any.
    """
    kind = f"{settings.backbone} is a decoder ({config.model_type})"
    if pooling_class(settings.pooling).reads.startswith("first_token"):
        raise UserError(
            f"encoder.pooling is {settings.pooling}, but {kind}, whose first token sees nothing of "
            "a text but itself. Use last or mean."
        )
    if settings.adapters is not None:
        raise UserError(
            f"encoder.adapters is set, but {kind}, which is trained without adapters here. Train "
            "few weights of it by encoder.lora."
        )


def _recorded_pooling(metadata: ModelMetadata) -> type[Pooling] | None:
    """The class of the pooling that a folder records, where it is one of this package's."""
    name = metadata.record.get("pooling")
    return pooling_class(name) if name in POOLINGS else None


def pooling_of(settings: EncoderSettings, config: Any, metadata: ModelMetadata | None) -> Pooling:
    """The pooling of the folder where that has the same one, else a new one.

    Args:
        settings: of the encoder.
        config: the backbone's.
        metadata: of the folder that the settings name.

    Raises:
        UserError: the folder's weights of it are missing or do not fit.
    """
    kind = pooling_class(settings.pooling)
    if metadata is None or metadata.record.get("pooling") != settings.pooling:
        return kind(settings, config)
    folder, record = find_folder(settings.backbone), metadata.record
    place = record.get("backbone") or ""
    if place not in ("", BASE_PLACE, kind.backbone_place):
        raise UserError(
            f"{folder / 'sciembed.json'}: `backbone` is {place!r} and `pooling` "
            f"{settings.pooling!r}, which do not go together. Export the model again."
        )
    return kind.load(folder, record, settings, config)


def projection_of(
    settings: EncoderSettings, config: Any, metadata: ModelMetadata | None
) -> nn.Linear | None:
    """The linear layer after the pooling: the folder's where that has one, else a new one.

    The arguments are those of `pooling_of`.

    Raises:
        UserError: the folder's weights of it are missing or of another width.
    """
    if settings.projection is None:
        return None
    if metadata is not None and metadata.projection_folder is not None:
        folder, width = metadata.projection_folder, metadata.projection
        if width != settings.projection:
            raise UserError(
                f"encoder.projection is {settings.projection}, and {settings.backbone} has a "
                f"projection to {width} numbers; set it to {width}, or to null for none."
            )
        return load_projection(folder, config.hidden_size, settings.projection)
    return new_projection(config.hidden_size, settings.projection)


def _warn_of_parts_left_out(
    settings: EncoderSettings, metadata: ModelMetadata, recorded: type[Pooling] | None
) -> None:
    name = metadata.record.get("pooling")
    if name not in (None, settings.pooling) and (recorded is None or recorded.learned):
        log.warning(
            f"{settings.backbone}: was trained with the pooling {name}, which pooling "
            f"{settings.pooling} leaves out. Its vectors are meant to be used with pooling {name}."
        )
    if metadata.projection is not None and settings.projection is None:
        log.warning(
            f"{settings.backbone}: has a projection, which is left out here: the vectors are those "
            f"before it. It was learned for the pooling {metadata.projected_pooling}."
        )
    if metadata.adapters is not None and settings.adapters is None:
        log.warning(
            f"{settings.backbone}: has adapters, which are left out here: without them the vectors "
            "are those of its base. Set model.encoder.adapters to use and train them."
        )
    if metadata.control_codes and not settings.control_codes:
        log.warning(
            f"{settings.backbone}: reads control codes, which are left out here: without them its "
            "vectors are not those that it was trained for. Set model.encoder.control_codes to "
            "true to go on with them."
        )


def _check_mask_token(tokenizer: TextTokenizer, backbone: str) -> None:
    if tokenizer.mask_id is None:
        raise UserError(
            f"{backbone}: the tokenizer has no mask token, which masked language modelling puts in "
            "the place of words. Use a backbone whose tokenizer has one, or train without masked "
            "language modelling."
        )
