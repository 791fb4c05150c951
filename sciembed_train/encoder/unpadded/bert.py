"""BERT-family forward over real tokens only.

Embeddings, linear layers and norms see ``[T, H]``: the tokens of every text end to end, no
padding anywhere; attention keeps texts apart (`attention.attend`). Everything goes through the
backbone's own submodules, so parameters, hooks, adapters and exports are untouched.

Shapes: ``T`` tokens of all texts, ``Q`` tokens or texts that ask in attention, ``H`` width of a
hidden state, ``AC`` heads times the width of a head.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.encoder.unpadded import attention
from sciembed_train.encoder.unpadded.compiled_layer import AfterAttention, plainly
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear
from sciembed_train.errors import UserError

# Model types whose layers have BERT's shape, in transformers 4.57 and 5 alike; the value says
# whether positions count from ``padding_idx + 1`` (Liu et al. 2019's code) or from 0.
UNPADDED_TYPES: dict[str, bool] = {
    "bert": False,
    "electra": False,
    "roberta": True,
    "xlm-roberta": True,
    "camembert": True,
}

# What runs the end of a layer, where each token is by itself: given that end, the two tensors that
# it makes the layer's states of, and whether they are of the texts' first tokens alone.
RunEnd = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, bool], Tensor]


def _as_it_is(
    end: Callable[[Tensor, Tensor], Tensor], context: Tensor, residual: Tensor, range_starts: bool
) -> Tensor:
    return end(context, residual)


def why_not_unpadded(backbone: nn.Module) -> str | None:
    """Why this backbone must run padded; None when it can run unpadded."""
    config: Any = backbone.config
    if config.model_type not in UNPADDED_TYPES:
        return f"model type {config.model_type!r} is not one of {', '.join(UNPADDED_TYPES)}"
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        return f"position_embedding_type is {config.position_embedding_type!r}, not absolute"
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "the configuration makes it a decoder"
    return None


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


def unpadded_positions(
    ids: Int[Tensor, " T"], begins: Int[Tensor, " T"], padding_idx: int | None
) -> Int[Tensor, " T"]:
    """Position of each token in its own text.

    Args:
        ids: token ids of every text, end to end.
        begins: of each token the first one of its text.
        padding_idx: None counts from 0. Otherwise RoBERTa's rule: tokens other than
            ``padding_idx`` count from ``padding_idx + 1``, the padding token itself (a text may
            spell it out) has position ``padding_idx`` and is not counted.
    """
    if padding_idx is None:
        return torch.arange(ids.shape[0], device=ids.device) - begins
    counted = (ids != padding_idx).long()
    running = torch.cumsum(counted, 0)
    before = (running - counted).index_select(0, begins)
    return (running - before) * counted + padding_idx


def _lowered(hidden: Float[Tensor, "T H"]) -> Float[Tensor, "T H"]:
    """The input of several linear layers, cast to autocast's type once instead of by each."""
    kind = hidden.device.type
    if hidden.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return hidden.to(torch.get_autocast_dtype(kind))
    return hidden


@dataclass(frozen=True)
class Run:
    """How the layers are run; the numbers are the same but for rounding.

    Args:
        attention: one of `attention.NAMES`.
        checkpointing: keep only each layer's input and compute the layer again in the backward.
        end: what runs the end of each layer, both times, such as with a choice of its adapters.
        after: computes that end: plainly, or compiled (`compiling`).
    """

    attention: str = "auto"
    checkpointing: bool = False
    end: RunEnd = _as_it_is
    after: AfterAttention = plainly


def _layer(
    layer: Any, hidden: Float[Tensor, "T H"], layout: Layout, alone: bool, run: Run
) -> Float[Tensor, "Q H"]:
    """One transformer layer; with ``alone``, only the new states of each text's first token."""

    def end(context: Tensor, residual: Tensor) -> Tensor:
        return run.after(layer, context, residual)

    own = layer.attention.self
    states = _lowered(hidden)
    residual, queries = hidden, states
    if alone:
        residual, queries = (rows.index_select(0, layout.starts) for rows in (hidden, states))
    # Entered here, and for the end by what computes it, so that a checkpoint enters it again.
    with faster_linear(hidden.device):
        query, key, value = own.query(queries), own.key(states), own.value(states)
    context = attention.attend(
        query,
        key,
        value,
        layout,
        own.num_attention_heads,
        own.dropout.p if own.training else 0.0,
        run.attention,
        run.checkpointing,
    )
    return run.end(end, context, residual, alone)


def unpadded_states(
    backbone: Any,
    ids: Int[Tensor, " T"],
    layout: Layout,
    cls_only: bool = False,
    run: Run = Run(),
) -> Float[Tensor, "Q H"]:
    """Last hidden states of every token, or with ``cls_only`` of each text's first token.

    The last of what `unpadded_layers` gives, with its arguments.
    """
    return deque(unpadded_layers(backbone, ids, layout, cls_only, run), maxlen=1).pop()


def unpadded_layers(
    backbone: Any,
    ids: Int[Tensor, " T"],
    layout: Layout,
    cls_only: bool = False,
    run: Run = Run(),
) -> Iterator[Float[Tensor, "Q H"]]:
    """The embeddings' states and then each layer's, each handed over before the next is computed.

    With ``cls_only`` the last layer computes queries, output projection and feed-forward for the
    first tokens alone: nothing else of it reaches them, so the result is the same and every
    parameter still gets its whole gradient.

    Args:
        backbone: a model that `why_not_unpadded` accepts.
        ids: token ids of every text, end to end.
        layout: of the texts, on the device of ``ids``.
        cls_only: leave out what no first token depends on.
        run: how the layers are run.
    """
    config = backbone.config
    padding_idx = config.pad_token_id if UNPADDED_TYPES[config.model_type] else None
    hidden = backbone.embeddings(
        input_ids=ids.unsqueeze(0),
        token_type_ids=torch.zeros_like(ids).unsqueeze(0),
        position_ids=unpadded_positions(ids, layout.begins, padding_idx).unsqueeze(0),
    ).squeeze(0)
    if hasattr(backbone, "embeddings_project"):  # ELECTRA with embeddings narrower than layers
        hidden = backbone.embeddings_project(hidden)
    yield hidden
    layers = backbone.encoder.layer
    for number, layer in enumerate(layers, start=1):
        alone = cls_only and number == len(layers)
        if run.checkpointing and torch.is_grad_enabled():
            hidden = checkpoint(_layer, layer, hidden, layout, alone, run, use_reentrant=False)
        else:
            hidden = _layer(layer, hidden, layout, alone, run)
        yield hidden
