"""What an encoder is made of, for functions that run, save or describe it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sciembed_train.encoder.format_reader import FormatReader
from sciembed_train.encoder.heads.masked_lm_head import MaskedLMHead
from sciembed_train.encoder.pooling.base import Pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class EncoderParts:
    """What an encoder is made of.

    Args:
        settings: what makes it, apart from its weights.
        backbone: a model of ``transformers``.
        tokenizer: the backbone's.
        pooling: makes vectors of the backbone's states.
        format_reader: what it does with the formats of texts.
        head: predicts tokens from their last states.
        original_dropouts: the backbone's own where ``settings.dropout`` replaced them.
    """

    settings: EncoderSettings
    backbone: Any
    tokenizer: TextTokenizer
    pooling: Pooling
    format_reader: FormatReader
    head: MaskedLMHead | None = None
    original_dropouts: dict[str, float] = field(default_factory=dict)
