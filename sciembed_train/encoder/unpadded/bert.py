"""BERT and the model types whose layers have its shape.

Shapes: ``T`` tokens of all texts, ``Q`` queries of attention: tokens or texts, ``H`` width of a
hidden state, ``AC`` heads times the width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.unpadded.attention import attend
from sciembed_train.encoder.unpadded.family import Run, UnpaddedFamily
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear


@dataclass(frozen=True)
class Bert(UnpaddedFamily):
    """Layers with norms after attention and feed-forward part, and a table of positions.

    Args:
        positions_after_padding: whether positions count from ``padding_idx + 1`` (Liu et al.
            2019's code) or from 0.
    """

    positions_after_padding: bool = False

    def why_not(self, backbone: Any) -> str | None:
        """See `UnpaddedFamily`."""
        kind = getattr(backbone.config, "position_embedding_type", None)
        if kind not in (None, "absolute"):
            return f"position_embedding_type is {kind!r}, not absolute"
        return None

    def layers(self, backbone: Any) -> list[Any]:
        """See `UnpaddedFamily`."""
        return list(backbone.encoder.layer)

    def attention_dropout(self, layer: Any) -> float:
        """See `UnpaddedFamily`."""
        return layer.attention.self.dropout.p

    def head_width(self, layer: Any) -> int:
        """See `UnpaddedFamily`."""
        return layer.attention.self.attention_head_size

    def embed(self, backbone: Any, ids: Int[Tensor, " T"], layout: Layout) -> Float[Tensor, "T H"]:
        """See `UnpaddedFamily`."""
        padding_idx = backbone.config.pad_token_id if self.positions_after_padding else None
        hidden = backbone.embeddings(
            input_ids=ids.unsqueeze(0),
            token_type_ids=torch.zeros_like(ids).unsqueeze(0),
            position_ids=unpadded_positions(ids, layout, padding_idx).unsqueeze(0),
        ).squeeze(0)
        if hasattr(backbone, "embeddings_project"):  # ELECTRA, embeddings narrower than layers
            hidden = backbone.embeddings_project(hidden)
        return hidden

    def attention(
        self,
        layer: Any,
        hidden: Float[Tensor, "T H"],
        layout: Layout,
        alone: bool,
        run: Run,
        shared: None,
    ) -> Float[Tensor, "Q AC"]:
        """See `UnpaddedFamily`."""
        attention = layer.attention.self
        states = _lowered(hidden)
        queries = states.index_select(0, layout.starts) if alone else states
        # Entered here, and again at the layer's end, so that checkpoint recomputation enters it.
        with faster_linear(hidden.device):
            query, key, value = (
                attention.query(queries),
                attention.key(states),
                attention.value(states),
            )
        return attend(
            query,
            key,
            value,
            layout,
            attention.num_attention_heads,
            attention.dropout.p if attention.training else 0.0,
            run.attention,
            run.checkpointing,
        )

    @staticmethod
    @no_type_check  # it is compiled: no runtime type checker may wrap it
    def after_attention(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """See `UnpaddedFamily`."""
        return layer.feed_forward_chunk(layer.attention.output(context, residual))


def unpadded_positions(
    ids: Int[Tensor, " T"], layout: Layout, padding_idx: int | None
) -> Int[Tensor, " T"]:
    """Position of each token in its own text.

    Args:
        ids: token ids of every text, end to end.
        layout: of the texts.
        padding_idx: None counts from 0. Otherwise RoBERTa's rule: tokens other than
            ``padding_idx`` count from ``padding_idx + 1``, the padding token itself (a text may
            spell it out) has position ``padding_idx`` and is not counted.
    """
    if padding_idx is None:
        return layout.positions
    counted = (ids != padding_idx).long()
    running = torch.cumsum(counted, 0)
    counted_before = (running - counted).index_select(0, layout.begins)
    return (running - counted_before) * counted + padding_idx


def _lowered(hidden: Float[Tensor, "T H"]) -> Float[Tensor, "T H"]:
    """The input of several linear layers, cast to autocast's type once instead of by each."""
    kind = hidden.device.type
    if hidden.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return hidden.to(torch.get_autocast_dtype(kind))
    return hidden
