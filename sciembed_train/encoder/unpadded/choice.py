"""Whether an encoder runs unpadded, and how texts are then kept apart."""

from __future__ import annotations

from typing import Any

import torch

from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.encoder.unpadded import attention
from sciembed_train.encoder.unpadded.bert import why_not_unpadded
from sciembed_train.errors import UserError


def runs_unpadded(settings: EncoderSettings, backbone: Any, obstacle: str | None) -> bool:
    """Whether the settings and the backbone make the forward an unpadded one.

    Args:
        settings: of the encoder.
        backbone: a model of ``transformers``.
        obstacle: why another part of the encoder needs the padded forward, if one does.

    Raises:
        UserError: a setting asks for what the padded forward has not.
    """
    reason = why_not_unpadded(backbone) or obstacle
    if settings.forward == "unpadded" and reason is not None:
        raise UserError(
            f"encoder.forward is unpadded, but {settings.backbone} cannot run so: {reason}. "
            "Use auto or padded."
        )
    unpadded = reason is None and settings.forward != "padded"
    if settings.attention != "auto" and not unpadded:
        raise UserError(
            f"encoder.attention is {settings.attention}, but {settings.backbone} runs padded, "
            f"where the backbone attends by itself: {reason}. Use auto."
        )
    if settings.compile and not unpadded:
        raise UserError(
            f"encoder.compile is true, but {settings.backbone} runs padded, which is never "
            f"compiled: {reason}. Set it to false."
        )
    return unpadded


def attention_on(settings: EncoderSettings, backbone: Any, kind: str, dtype: torch.dtype) -> str:
    """How unpadded training keeps texts apart: the setting, or what ``auto`` means.

    Args:
        settings: of the encoder.
        backbone: that runs unpadded.
        kind: type of the device.
        dtype: of the matrix products.

    Raises:
        UserError: the setting does not run there.
    """
    own = backbone.encoder.layer[0].attention.self
    dropout, width = own.dropout.p, own.attention_head_size
    if settings.attention == "auto":
        name = attention.preferred(kind, dtype, dropout, width)
        return "padded" if name == "nested" and settings.gradient_checkpointing else name
    attention.check(settings.attention, kind, dtype, dropout, width)
    return settings.attention
