"""The forward over real tokens only, for every family that has one.

Shapes: ``T`` tokens of all texts, ``Q`` queries of attention: tokens or texts, ``H`` width of a
hidden state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.encoder.unpadded import attention, compiled_layer
from sciembed_train.encoder.unpadded.bert import Bert
from sciembed_train.encoder.unpadded.decoder import Decoder, Gemma
from sciembed_train.encoder.unpadded.family import Run, UnpaddedFamily
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.modernbert import ModernBert
from sciembed_train.errors import UserError

# The family of each model type that runs unpadded, in transformers 4.57 and 5.
UNPADDED_FAMILIES: dict[str, UnpaddedFamily] = {
    "bert": Bert(),
    "electra": Bert(),
    "roberta": Bert(positions_after_padding=True),
    "xlm-roberta": Bert(positions_after_padding=True),
    "camembert": Bert(positions_after_padding=True),
    "modernbert": ModernBert(),
    "llama": Decoder(),
    "mistral": Decoder(),
    "qwen2": Decoder(),
    "qwen3": Decoder(),
    "gemma3_text": Gemma(),
}
PLAIN = Run()


def family_of(backbone: Any) -> UnpaddedFamily | None:
    """The family of a backbone; None where its model type has no unpadded forward."""
    return UNPADDED_FAMILIES.get(backbone.config.model_type)


def why_not_unpadded(backbone: nn.Module) -> str | None:
    """Why this backbone must run padded; None when it can run unpadded."""
    config: Any = backbone.config
    family = family_of(backbone)
    if family is None:
        return (
            f"model type {config.model_type!r} is not one of {', '.join(sorted(UNPADDED_FAMILIES))}"
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "the configuration makes it a decoder"
    return family.why_not(backbone)


def runs_unpadded(settings: EncoderSettings, backbone: Any, obstacle: str | None) -> bool:
    """Whether the forward is unpadded, by the settings and the backbone.

    Args:
        settings: of the encoder.
        backbone: a model of ``transformers``.
        obstacle: why another part of the encoder needs the padded forward, if one does.

    Raises:
        UserError: a setting needs what the padded forward lacks.
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

    Raises:
        UserError: the setting does not run there.
    """
    family, layer = _family(backbone), backbone_layers(backbone)[0]
    dropout, width = family.attention_dropout(layer), family.head_width(layer)
    if settings.attention == "auto":
        name = attention.preferred(kind, dtype, dropout, width)
        return "padded" if name == "nested" and settings.gradient_checkpointing else name
    attention.check(settings.attention, kind, dtype, dropout, width)
    return settings.attention


def backbone_layers(backbone: Any) -> list[Any]:
    """The layers of a backbone that `why_not_unpadded` accepts, from the lowest."""
    return _family(backbone).layers(backbone)


def computed_alone(backbone: Any) -> str:
    """Start of the `Pooling.reads` that need the last layer for only one token of each text."""
    return "last_token" if _family(backbone).causal else "first_token"


def unpadded_states(
    backbone: Any,
    ids: Int[Tensor, " T"],
    layout: Layout,
    alone: bool = False,
    run: Run = PLAIN,
) -> Float[Tensor, "Q H"]:
    """Last hidden states of every token, or with ``alone`` of one token of each text.

    The last of what `unpadded_layers` gives, with its arguments.
    """
    return deque(unpadded_layers(backbone, ids, layout, alone, run), maxlen=1).pop()


def unpadded_layers(
    backbone: Any,
    ids: Int[Tensor, " T"],
    layout: Layout,
    alone: bool = False,
    run: Run = PLAIN,
) -> Iterator[Float[Tensor, "Q H"]]:
    """The embeddings' states and then each layer's, each yielded before the next is computed.

    The last ones are the backbone's last hidden states, after its final norm if it has one. With
    ``alone`` the last layer computes attention's output, its projection and the feed-forward part
    for only the first tokens, of a causal backbone the last ones (`UnpaddedFamily.alone`): they
    depend on nothing else of it, so the result is the same and every parameter still gets its whole
    gradient.

    Args:
        backbone: a model that `why_not_unpadded` accepts.
        ids: token ids of every text, end to end.
        layout: of the texts, on the device of ``ids``.
        alone: leave out what the one token of each text does not depend on.
        run: how the layers are run.
    """
    family = _family(backbone)
    hidden = family.embed(backbone, ids, layout)
    yield hidden
    shared, layers = family.shared(backbone, hidden, layout), family.layers(backbone)
    for number, layer in enumerate(layers, start=1):
        last = number == len(layers)
        arguments = family, layer, hidden, layout, alone and last, run, shared
        if run.checkpointing and torch.is_grad_enabled():
            hidden = checkpoint(_layer, *arguments, use_reentrant=False)
        else:
            hidden = _layer(*arguments)
        yield family.finish(backbone, hidden) if last else hidden


def _layer(
    family: UnpaddedFamily,
    layer: Any,
    hidden: Float[Tensor, "T H"],
    layout: Layout,
    alone: bool,
    run: Run,
    shared: Any,
) -> Float[Tensor, "Q H"]:
    """One layer's states; with ``alone``, only those of one token of each text."""
    if run.compiled:
        after_attention = compiled_layer.compiled_on(hidden.device.type, family.after_attention)
    else:
        after_attention = compiled_layer.plainly(family.after_attention)

    def end(context: Tensor, residual: Tensor) -> Tensor:
        return after_attention(layer, context, residual)

    context = family.attention(layer, hidden, layout, alone, run, shared)
    residual = hidden.index_select(0, family.alone(layout)) if alone else hidden
    return run.end(end, context, residual, alone)


def _family(backbone: Any) -> UnpaddedFamily:
    family = family_of(backbone)
    assert family is not None, backbone.config.model_type
    return family
