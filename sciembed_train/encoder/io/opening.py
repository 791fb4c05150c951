"""From an encoder's settings to its parts: backbone, head and tokenizer of the folder they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from sciembed_train.encoder.heads import masked_lm_head
from sciembed_train.encoder.io import loading
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.tokenizer import TextTokenizer


def open_parts(
    settings: EncoderSettings, masked_lm: bool | Literal["auto"]
) -> tuple[
    nn.Module,
    masked_lm_head.MaskedLMHead | None,
    TextTokenizer,
    dict[str, float],
    loading.ModelMetadata,
]:
    """Backbone, head, tokenizer, the dropouts that were replaced, and what the folder says.

    Args:
        settings: which backbone, and with which dropout.
        masked_lm: as for `Encoder`.

    Raises:
        UserError: the backbone cannot be loaded safely and wholly, or has no mask token where one
            is needed.
    """
    metadata = loading.read_metadata(loading.find_folder(settings.backbone), settings.pooling)
    folder = metadata.backbone
    if metadata.mix is not None and settings.pooling != "mix":
        loading.log.warning(
            f"{settings.backbone}: gives a learned mix of its layers, which pooling "
            f"{settings.pooling} leaves out. Its vectors are meant to be used with pooling mix."
        )
    if metadata.adapters is not None and settings.adapters is None:
        loading.log.warning(
            f"{settings.backbone}: has adapters, which are left out here: without them the vectors "
            "are those of its base. Set model.encoder.adapters to use and train them."
        )
    if metadata.control_codes and not settings.control_codes:
        loading.log.warning(
            f"{settings.backbone}: reads control codes, which are left out here: without them its "
            "vectors are not those that it was trained for. Set model.encoder.control_codes to "
            "true to go on with them."
        )
    config = loading.checked_config(folder)
    if metadata.mix is not None:
        config.output_hidden_states = False  # true for other libraries alone
    tokenizer = loading.load_tokenizer(folder)
    if masked_lm is True:  # before the weights are read, which takes long
        masked_lm_head.check_type(config, settings.backbone)
        _check_mask_token(tokenizer, settings.backbone)
    original_dropouts = {}
    if settings.dropout is not None:
        original_dropouts = loading.set_dropout(config, settings.dropout)
    backbone = head = None
    if masked_lm and config.model_type in masked_lm_head.HEADS:
        backbone, head = masked_lm_head.load(folder, config, make=masked_lm is True)
    if backbone is None:
        backbone = loading.load_backbone(folder, config)
    return backbone, head, tokenizer, original_dropouts, metadata


def _check_mask_token(tokenizer: TextTokenizer, where: str) -> None:
    if tokenizer.mask_id is None:
        raise UserError(
            f"{where}: the tokenizer has no mask token, which masked language modelling puts in "
            "the place of words. Use a backbone whose tokenizer has one, or train without masked "
            "language modelling."
        )


def repeated_layers(backbone: nn.Module) -> list[nn.Module]:
    """The members of a backbone's outermost lists of modules."""

    def inside(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                yield from child
            else:
                yield from inside(child)

    return list(inside(backbone))
