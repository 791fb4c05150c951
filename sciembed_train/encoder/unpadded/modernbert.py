"""ModernBERT (Warner et al. 2024) and models of its type, such as Ettin and mmBERT.

Norms stand before attention and feed-forward part, and one more above the last layer. Positions
rotate queries and keys, by different angles in layers with global and with local attention.

Shapes: ``T`` tokens of all texts, ``Q`` queries of attention: tokens or texts, ``H`` width of a
hidden state, ``A`` heads, ``C`` width of a head, ``AC`` their product.
"""

from __future__ import annotations

from typing import Any, no_type_check

from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.unpadded.attention import attend
from sciembed_train.encoder.unpadded.family import ANGLES_BY_BATCH, Run, UnpaddedFamily
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear

# Cosine and sine of every token's position, by the layers' window.
Angles = dict[int | None, tuple[Float[Tensor, "T C"], Float[Tensor, "T C"]]]


class ModernBert(UnpaddedFamily):
    """Rotary positions, local and global attention in turns, a gated feed-forward part."""

    feed_forward_products = 3

    def why_not(self, backbone: Any) -> str | None:
        """See `UnpaddedFamily`."""
        kinds = [_rope_type(layer, backbone) for layer in self.layers(backbone)]
        unsupported = [kind for kind in kinds if kind in ANGLES_BY_BATCH]
        if unsupported:
            return f"its rotary positions ({unsupported[0]}) depend on the longest text of a batch"
        return None

    def layers(self, backbone: Any) -> list[Any]:
        """See `UnpaddedFamily`."""
        return list(backbone.layers)

    def attention_dropout(self, layer: Any) -> float:
        """See `UnpaddedFamily`."""
        return layer.attn.attention_dropout

    def head_width(self, layer: Any) -> int:
        """See `UnpaddedFamily`."""
        return layer.attn.head_dim

    def window(self, layer: Any) -> int | None:
        """See `UnpaddedFamily`."""
        # Read from the modules, since transformers 5 renames the configuration's keys.
        if hasattr(layer.attn, "local_attention"):
            sides = layer.attn.local_attention
            return None if sides == (-1, -1) else sides[0]
        sliding_window = layer.attn.sliding_window  # the first distance out of sight
        return None if sliding_window is None else sliding_window - 1

    def embed(self, backbone: Any, ids: Int[Tensor, " T"], layout: Layout) -> Float[Tensor, "T H"]:
        """See `UnpaddedFamily`."""
        return backbone.embeddings(input_ids=ids.unsqueeze(0)).squeeze(0)

    def shared(self, backbone: Any, hidden: Float[Tensor, "T H"], layout: Layout) -> Angles:
        """The angles of every token, for each kind of layer."""
        positions = layout.positions.unsqueeze(0)
        angles: Angles = {}
        for layer in self.layers(backbone):
            window = self.window(layer)
            if window in angles:
                continue
            if hasattr(layer.attn, "rotary_emb"):
                cos, sin = layer.attn.rotary_emb(hidden, positions)
            else:  # transformers 5: one for all layers
                cos, sin = backbone.rotary_emb(hidden, positions, layer.attention_type)
            angles[window] = cos.squeeze(0), sin.squeeze(0)
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
        from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

        attention, window = layer.attn, self.window(layer)
        # Entered here, and again at the layer's end, so that checkpoint recomputation enters it.
        with faster_linear(hidden.device):
            states = attention.Wqkv(layer.attn_norm(hidden))
        query, key, value = states.unflatten(1, (3, -1, attention.head_dim)).unbind(1)
        # The library's own function: its versions round differently.
        query, key = apply_rotary_pos_emb(query, key, *shared[window], unsqueeze_dim=1)
        if alone:
            query = query.index_select(0, layout.starts)
        return attend(
            query.to(value.dtype).flatten(1),
            key.to(value.dtype).flatten(1),
            value.flatten(1),
            layout,
            value.shape[1],
            attention.attention_dropout if attention.training else 0.0,
            run.attention,
            run.checkpointing,
            window,
        )

    @staticmethod
    @no_type_check  # it is compiled: no runtime type checker may wrap it
    def after_attention(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """See `UnpaddedFamily`."""
        hidden = residual + layer.attn.out_drop(layer.attn.Wo(context))
        return hidden + layer.mlp(layer.mlp_norm(hidden))

    def finish(self, backbone: Any, hidden: Float[Tensor, "Q H"]) -> Float[Tensor, "Q H"]:
        """See `UnpaddedFamily`."""
        return backbone.final_norm(hidden)


def _rope_type(layer: Any, backbone: Any) -> str:
    """The kind of a layer's rotary positions."""
    if hasattr(layer.attn, "rotary_emb"):
        return getattr(layer.attn.rotary_emb, "rope_type", "default")
    return backbone.rotary_emb.rope_type[layer.attention_type]
