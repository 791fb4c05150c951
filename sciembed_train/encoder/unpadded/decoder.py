"""Decoders with the layers of Llama (Touvron et al. 2023): Llama, Mistral, Qwen2, Qwen3; and Gemma.

Attention is causal, in some layers within a window. Root-mean-square norms stand before attention
and feed-forward part, and one more above the last layer; Gemma has two more in each layer, after
both parts. Positions rotate queries and keys, in Gemma by another angle in the layers with a
window. Several heads of queries may share one of keys and values.

Shapes: ``T`` tokens of all texts, ``Q`` queries of attention: tokens or texts, ``H`` width of a
hidden state, ``A`` heads, ``C`` width of a head, ``AC`` their product.
"""

from __future__ import annotations

import sys
from typing import Any, no_type_check

from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.unpadded.attention import attend
from sciembed_train.encoder.unpadded.family import ANGLES_BY_BATCH, Run, UnpaddedFamily
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear

# Cosine and sine of every token's position, by kind of layer.
Angles = dict[str, tuple[Float[Tensor, "T C"], Float[Tensor, "T C"]]]


class Decoder(UnpaddedFamily):
    """Causal attention, rotary positions of one angle, a gated feed-forward part."""

    feed_forward_products = 3
    causal = True

    def why_not(self, backbone: Any) -> str | None:
        """See `UnpaddedFamily`."""
        for rotary in self.rotaries(backbone).values():
            kinds = getattr(rotary, "rope_type", "default")
            for kind in kinds.values() if isinstance(kinds, dict) else [kinds]:
                if kind in ANGLES_BY_BATCH:
                    return f"its rotary positions ({kind}) depend on the longest text of a batch"
        return None

    def layers(self, backbone: Any) -> list[Any]:
        """See `UnpaddedFamily`."""
        return list(backbone.layers)

    def attention_dropout(self, layer: Any) -> float:
        """See `UnpaddedFamily`."""
        return layer.self_attn.attention_dropout

    def head_width(self, layer: Any) -> int:
        """See `UnpaddedFamily`."""
        return layer.self_attn.head_dim

    def heads_widths(self, layer: Any, hidden: int) -> tuple[int, int]:
        """See `UnpaddedFamily`."""
        attention = layer.self_attn
        return attention.q_proj.out_features, attention.k_proj.out_features

    def window(self, layer: Any) -> int | None:
        """See `UnpaddedFamily`."""
        attention = layer.self_attn
        if attention.config.model_type == "mistral":  # in all layers; their modules do not say so
            sliding_window = attention.config.sliding_window
        else:
            sliding_window = getattr(attention, "sliding_window", None)
        # A sliding window is the first distance out of sight.
        return None if sliding_window is None else sliding_window - 1

    def embed(self, backbone: Any, ids: Int[Tensor, " T"], layout: Layout) -> Float[Tensor, "T H"]:
        """See `UnpaddedFamily`."""
        return backbone.embed_tokens(ids)

    def rotaries(self, backbone: Any) -> dict[str, Any]:
        """The rotary modules by kind of layer."""
        return {"": backbone.rotary_emb}

    def kind(self, layer: Any) -> str:
        """The kind of a layer, by which it finds its angles in what `shared` gives."""
        return ""

    def shared(self, backbone: Any, hidden: Float[Tensor, "T H"], layout: Layout) -> Angles:
        """The angles of every token, for each kind of layer."""
        positions = layout.positions.unsqueeze(0)
        angles: Angles = {}
        for kind, rotary in self.rotaries(backbone).items():
            # transformers 5 has one module for all kinds of Gemma's layers.
            named = [kind] if isinstance(getattr(rotary, "rope_type", None), dict) else []
            cos, sin = rotary(hidden, positions, *named)
            angles[kind] = cos.squeeze(0), sin.squeeze(0)
        return angles

    def attention(
        self,
        layer: Any,
        hidden: Float[Tensor, "T H"],
        layout: Layout,
        alone: bool,
        run: Run,
        shared: Angles,
    ) -> Float[Tensor, "Q AC"]:
        """See `UnpaddedFamily`."""
        attention, states = layer.self_attn, layer.input_layernorm(hidden)
        cos, sin = shared[self.kind(layer)]
        query_states, query_angles = states, (cos, sin)
        if alone:
            last_tokens = self.alone(layout)
            query_states, query_angles = (
                states.index_select(0, last_tokens),
                (x.index_select(0, last_tokens) for x in query_angles),
            )
        # Entered here, and again at the layer's end, so that checkpoint recomputation enters it.
        with faster_linear(hidden.device):
            query, key, value = (
                attention.q_proj(query_states),
                attention.k_proj(states),
                attention.v_proj(states),
            )
        query, key = (x.unflatten(1, (-1, attention.head_dim)) for x in (query, key))
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
        query, key = _turned(attention, query, *query_angles), _turned(attention, key, cos, sin)
        # The kernels divide by the root of a head's width; Gemma may scale its scores differently.
        scale = attention.scaling * attention.head_dim**0.5
        if abs(scale - 1) > 1e-9:
            query = query * scale
        return attend(
            query.to(value.dtype).flatten(1),
            key.to(value.dtype).flatten(1),
            value,
            layout,
            query.shape[1],
            attention.attention_dropout if attention.training else 0.0,
            run.attention,
            run.checkpointing,
            self.window(layer),
            self.causal,
        )

    @staticmethod
    @no_type_check  # it is compiled: no runtime type checker may wrap it
    def after_attention(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """See `UnpaddedFamily`."""
        hidden = residual + layer.self_attn.o_proj(context)
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    def finish(self, backbone: Any, hidden: Float[Tensor, "Q H"]) -> Float[Tensor, "Q H"]:
        """See `UnpaddedFamily`."""
        return backbone.norm(hidden)


class Gemma(Decoder):
    """Gemma 3: two angles, norms on both sides of each part, layers with and without a window."""

    def why_not(self, backbone: Any) -> str | None:
        """See `UnpaddedFamily`."""
        if backbone.config.attn_logit_softcapping is not None:
            return "it caps the scores of attention (attn_logit_softcapping)"
        return super().why_not(backbone)

    def rotaries(self, backbone: Any) -> dict[str, Any]:
        """See `Decoder`."""
        kinds = {self.kind(layer) for layer in self.layers(backbone)}
        local = getattr(backbone, "rotary_emb_local", backbone.rotary_emb)
        module_of_kind = {"full_attention": backbone.rotary_emb, "sliding_attention": local}
        return {kind: module_of_kind[kind] for kind in sorted(kinds)}

    def kind(self, layer: Any) -> str:
        """See `Decoder`."""
        return "sliding_attention" if layer.self_attn.is_sliding else "full_attention"

    @staticmethod
    @no_type_check  # as above
    def after_attention(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """See `UnpaddedFamily`."""
        hidden = residual + layer.post_attention_layernorm(layer.self_attn.o_proj(context))
        inner = layer.mlp(layer.pre_feedforward_layernorm(hidden))
        return hidden + layer.post_feedforward_layernorm(inner)


def _turned(
    attention: Any,
    states: Float[Tensor, "_ A C"],
    cos: Float[Tensor, "_ C"],
    sin: Float[Tensor, "_ C"],
) -> Float[Tensor, "_ A C"]:
    """Queries or keys, rotated by their positions with the function of the backbone's module."""
    library = sys.modules[type(attention).__module__]
    turned, _ = library.apply_rotary_pos_emb(states, states[:, :0], cos, sin, unsqueeze_dim=1)
    return turned
