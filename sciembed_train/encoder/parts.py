"""What an encoder is made of, for functions that run, save or describe it.

A state dict names these parts differently from the encoder's attributes: a pooling's weights by
their own names, and what `FormatAdapters` adds below ``adapters``. It leaves out a frozen backbone,
and then takes a few megabytes.

Shapes: ``U`` texts, ``H`` width of a pooled vector, ``D`` of an embedding.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from sciembed_train.encoder.format_reader import FormatReader
from sciembed_train.encoder.heads.masked_lm_head import MaskedLMHead
from sciembed_train.encoder.pooling.base import Pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.text.tokenizer import TextTokenizer

# Prefix of an attribute of the encoder, and what replaces it in a state dict.
_NAMES = (("pooling.", ""), ("format_reader.", "adapters."))


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
        projection: a linear layer after the pooling.
    """

    settings: EncoderSettings
    backbone: Any
    tokenizer: TextTokenizer
    pooling: Pooling
    format_reader: FormatReader
    head: MaskedLMHead | None = None
    original_dropouts: dict[str, float] = field(default_factory=dict)
    projection: nn.Linear | None = None

    def projected(self, vectors: Float[Tensor, "U H"], scaled: bool = True) -> Float[Tensor, "U D"]:
        """The final vectors, from the pooling's: projected and scaled as the settings say.

        Args:
            vectors: of texts, or of their sentences, which are never ``scaled``.
            scaled: to unit length, where the settings say so.
        """
        if self.projection is not None:
            vectors = self.projection(vectors)
        return normalize(vectors) if scaled and self.settings.normalize else vectors


def rename_for_state(
    encoder: Any, state: MutableMapping[str, Any], prefix: str, metadata: Any
) -> None:
    """A hook of ``state_dict``: give the keys their names and leave a frozen backbone out."""
    backbone = f"{prefix}backbone."
    entries = dict(state)
    state.clear()
    for key, value in entries.items():
        if key.startswith(backbone):
            if encoder.format_reader.keeps_in_state(key.removeprefix(backbone)):
                state[key] = value
            continue
        for attribute, name in _NAMES:
            if key.startswith(prefix + attribute):
                key = prefix + name + key.removeprefix(prefix + attribute)
        state[key] = value


def rename_from_state(encoder: Any, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    """A hook of ``load_state_dict``: the reverse, with the encoder's own frozen backbone."""
    for (attribute, name), part in zip(
        _NAMES, (encoder.pooling, encoder.format_reader), strict=True
    ):
        for key in part.state_dict():
            if prefix + name + key in state:
                state[prefix + attribute + key] = state.pop(prefix + name + key)
    for key, value in encoder.backbone.state_dict().items():
        if not encoder.format_reader.keeps_in_state(key):
            state[f"{prefix}backbone.{key}"] = value
