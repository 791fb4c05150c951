"""Decoders with the layers of Llama (Touvron et al. 2023): Llama, Mistral, Qwen2, Qwen3; and Gemma.

A token attends to none that follow it, in some layers to near ones alone. Root-mean-square norms
stand before attention and feed-forward part, and one more above the last layer; Gemma has two more
in each layer, behind both parts. Positions turn queries and keys (rotary), in Gemma by another
angle in the layers with a window. Several heads of queries may share one of keys and values.

Shapes: ``T`` tokens of all texts, ``Q`` tokens or texts that ask in attention, ``H`` width of a
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

# Cosine and sine of every token's position, by the kind of the layers that they are for.
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
        own = layer.self_attn
        return own.q_proj.out_features, own.k_proj.out_features

    def window(self, layer: Any) -> int | None:
        """See `UnpaddedFamily`."""
        own = layer.self_attn
        if own.config.model_type == "mistral":  # of all its layers; their modules do not say it
            beyond = own.config.sliding_window
        else:
            beyond = getattr(own, "sliding_window", None)
        return None if beyond is None else beyond - 1  # the first distance that is out of sight

    def embed(self, backbone: Any, ids: Int[Tensor, " T"], layout: Layout) -> Float[Tensor, "T H"]:
        """See `UnpaddedFamily`."""
        return backbone.embed_tokens(ids)

    def rotaries(self, backbone: Any) -> dict[str, Any]:
        """The modules of positions, by the kind of the layers that they are for."""
        return {"": backbone.rotary_emb}

    def kind(self, layer: Any) -> str:
        """Which of the angles that `shared` gives a layer reads."""
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
        own, states = layer.self_attn, layer.input_layernorm(hidden)
        cos, sin = shared[self.kind(layer)]
        asking, turn = states, (cos, sin)
        if alone:
            last = self.alone(layout)
            asking, turn = states.index_select(0, last), (x.index_select(0, last) for x in turn)
        # Entered here, and for the end by what computes it, so that a checkpoint enters it again.
        with faster_linear(hidden.device):
            query, key, value = own.q_proj(asking), own.k_proj(states), own.v_proj(states)
        query, key = (x.unflatten(1, (-1, own.head_dim)) for x in (query, key))
        if hasattr(own, "q_norm"):
            query, key = own.q_norm(query), own.k_norm(key)
        query, key = _turned(own, query, *turn), _turned(own, key, cos, sin)
        # The kernels divide by the root of a head's width; Gemma's scores may be scaled otherwise.
        scale = own.scaling * own.head_dim**0.5
        if abs(scale - 1) > 1e-9:
            query = query * scale
        return attend(
            query.to(value.dtype).flatten(1),
            key.to(value.dtype).flatten(1),
            value,
            layout,
            query.shape[1],
            own.attention_dropout if own.training else 0.0,
            run.attention,
            run.checkpointing,
            self.window(layer),
            self.causal,
        )

    @staticmethod
    @no_type_check  # it is compiled, and no checker of tests may stand around it
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
        own = {"full_attention": backbone.rotary_emb, "sliding_attention": local}
        return {kind: own[kind] for kind in sorted(kinds)}

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
    """Queries or keys, turned by their positions as the backbone's own module does it."""
    library = sys.modules[type(attention).__module__]
    turned, _ = library.apply_rotary_pos_emb(states, states[:, :0], cos, sin, unsqueeze_dim=1)
    return turned
