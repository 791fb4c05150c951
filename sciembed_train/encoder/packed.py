"""BERT-family forward over real tokens only.

Embeddings, linear layers and norms see ``[T, H]``: the tokens of every text end to end, no
padding anywhere. Attention runs text by text. Everything goes through the backbone's own
submodules, so parameters, hooks, adapters and exports are untouched.

Shapes: ``T`` tokens of all texts, ``U`` texts, ``Q`` tokens or texts that ask in attention,
``H`` width of a hidden state, ``A`` attention heads, ``C`` width of a head.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sciembed_train.encoder.pooling import first_tokens
from sciembed_train.encoder.products import faster_linear

# Model types whose layers have BERT's shape, in transformers 4.57 and 5 alike; the value says
# whether positions count from ``padding_idx + 1`` (Liu et al. 2019's code) or from 0.
PACKED_TYPES: dict[str, bool] = {
    "bert": False,
    "electra": False,
    "roberta": True,
    "xlm-roberta": True,
    "camembert": True,
}

# What a layer is run in; it is told whether the layer computes the texts' first tokens alone.
Within = Callable[[bool], AbstractContextManager[Any]]


def _nothing(firsts: bool) -> AbstractContextManager[Any]:
    return nullcontext()


def why_not_packed(backbone: nn.Module) -> str | None:
    """Why this backbone must run padded; None when it can run packed."""
    config: Any = backbone.config
    if config.model_type not in PACKED_TYPES:
        return f"model type {config.model_type!r} is not one of {', '.join(PACKED_TYPES)}"
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        return f"position_embedding_type is {config.position_embedding_type!r}, not absolute"
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "the configuration makes it a decoder"
    return None


def packed_positions(
    ids: Int[Tensor, " T"], lengths: Int[Tensor, " U"], padding_idx: int | None
) -> Int[Tensor, " T"]:
    """Position of each token in its own text.

    Args:
        ids: token ids of every text, end to end.
        lengths: tokens of each text.
        padding_idx: None counts from 0. Otherwise RoBERTa's rule: tokens other than
            ``padding_idx`` count from ``padding_idx + 1``, the padding token itself (a text may
            spell it out) has position ``padding_idx`` and is not counted.
    """
    if padding_idx is None:
        starts = torch.repeat_interleave(first_tokens(lengths), lengths, output_size=ids.shape[0])
        return torch.arange(ids.shape[0], device=ids.device) - starts
    counted = (ids != padding_idx).long()
    running = torch.cumsum(counted, 0)
    before = (running - counted).index_select(0, first_tokens(lengths))
    within = running - torch.repeat_interleave(before, lengths, output_size=ids.shape[0])
    return within * counted + padding_idx


def _lowered(hidden: Float[Tensor, "T H"]) -> Float[Tensor, "T H"]:
    """The input of several linear layers, cast to autocast's type once instead of by each."""
    kind = hidden.device.type
    if hidden.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return hidden.to(torch.get_autocast_dtype(kind))
    return hidden


def attend(
    query: Float[Tensor, "Q AC"],
    key: Float[Tensor, "T AC"],
    value: Float[Tensor, "T AC"],
    runs: Sequence[tuple[int, int]],
    heads: int,
    dropout: float,
) -> Float[Tensor, "Q AC"]:
    """Attention of each text to itself alone.

    Args:
        query: one row for each token, or one row for each text (its first token's).
        key: one row for each token.
        value: one row for each token.
        runs: neighbouring texts of equal length, as (how many, length): one call each.
        heads: attention heads, ``A``.
        dropout: share of attention weights dropped; 0 outside training.
    """
    given = query.dtype
    if query.device.type == "cpu" and given in (torch.bfloat16, torch.float16):
        # torch 2.13's half-precision kernel is the slower one on CPUs: at 230 tokens and 12 heads
        # of 32, forward and backward took 8.5 ms in bf16 and 5.4 ms in fp32, casts included.
        query, key, value = query.float(), key.float(), value.float()
    key_sizes = [count * length for count, length in runs]
    texts = [count for count, _ in runs]
    query_sizes = texts if query.shape[0] == sum(texts) else key_sizes

    def split(rows: Tensor, sizes: list[int]) -> list[Tensor]:
        parts = rows.split(sizes)
        return [
            part.view(count, -1, heads, rows.shape[1] // heads).transpose(1, 2)
            for part, (count, _) in zip(parts, runs, strict=True)
        ]

    # Autocast has done its part in the linear layers; here it would lower CPU tensors again.
    with torch.autocast(query.device.type, enabled=False):
        out = [
            F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(0, 1)
            for q, k, v in zip(
                split(query, query_sizes),
                split(key, key_sizes),
                split(value, key_sizes),
                strict=True,
            )
        ]
    return torch.cat(out).flatten(1).to(given)


def _layer(
    layer: Any,
    hidden: Float[Tensor, "T H"],
    runs: Sequence[tuple[int, int]],
    asking: Int[Tensor, " U"] | None,
    within: Within,
) -> Float[Tensor, "Q H"]:
    """One transformer layer; with ``asking``, only those tokens' new states."""
    # Entered here, so that a checkpoint enters it again.
    with within(asking is not None), faster_linear(hidden.device):
        return _states(layer, hidden, runs, asking)


def _states(
    layer: Any,
    hidden: Float[Tensor, "T H"],
    runs: Sequence[tuple[int, int]],
    asking: Int[Tensor, " U"] | None,
) -> Float[Tensor, "Q H"]:
    own = layer.attention.self
    states = _lowered(hidden)
    if asking is None:
        residual, asked = hidden, states
    else:
        residual, asked = hidden.index_select(0, asking), states.index_select(0, asking)
    context = attend(
        own.query(asked),
        own.key(states),
        own.value(states),
        runs,
        own.num_attention_heads,
        own.dropout.p if own.training else 0.0,
    )
    return layer.feed_forward_chunk(layer.attention.output(context, residual))


def packed_states(
    backbone: Any,
    ids: Int[Tensor, " T"],
    lengths: Int[Tensor, " U"],
    sizes: Sequence[int],
    cls_only: bool = False,
    checkpointing: bool = False,
    within: Within = _nothing,
) -> Float[Tensor, "Q H"]:
    """Last hidden states of every token, or with ``cls_only`` of each text's first token.

    The last of what `packed_layers` gives, with its arguments.
    """
    layers = packed_layers(backbone, ids, lengths, sizes, cls_only, checkpointing, within)
    return deque(layers, maxlen=1).pop()


def packed_layers(
    backbone: Any,
    ids: Int[Tensor, " T"],
    lengths: Int[Tensor, " U"],
    sizes: Sequence[int],
    cls_only: bool = False,
    checkpointing: bool = False,
    within: Within = _nothing,
) -> Iterator[Float[Tensor, "Q H"]]:
    """The embeddings' states and then each layer's, each handed over before the next is computed.

    With ``cls_only`` the last layer computes queries, output projection and feed-forward for the
    first tokens alone: nothing else of it reaches them, so the result is the same and every
    parameter still gets its whole gradient.

    Args:
        backbone: a model that `why_not_packed` accepts.
        ids: token ids of every text, end to end.
        lengths: tokens of each text, on the device of ``ids``.
        sizes: the same lengths on the host.
        cls_only: leave out what no first token depends on.
        checkpointing: keep only each layer's input and compute the layer again in the backward.
        within: what each layer is run in, both times, such as the choice of its adapters.
    """
    config = backbone.config
    padding_idx = config.pad_token_id if PACKED_TYPES[config.model_type] else None
    hidden = backbone.embeddings(
        input_ids=ids.unsqueeze(0),
        token_type_ids=torch.zeros_like(ids).unsqueeze(0),
        position_ids=packed_positions(ids, lengths, padding_idx).unsqueeze(0),
    ).squeeze(0)
    if hasattr(backbone, "embeddings_project"):  # ELECTRA with embeddings narrower than layers
        hidden = backbone.embeddings_project(hidden)
    yield hidden
    runs = [(len(list(same)), length) for length, same in groupby(sizes)]
    layers = backbone.encoder.layer
    for number, layer in enumerate(layers, start=1):
        asking = first_tokens(lengths) if cls_only and number == len(layers) else None
        if checkpointing and torch.is_grad_enabled():
            hidden = checkpoint(_layer, layer, hidden, runs, asking, within, use_reentrant=False)
        else:
            hidden = _layer(layer, hidden, runs, asking, within)
        yield hidden
