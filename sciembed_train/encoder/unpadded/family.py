"""What the unpadded forward asks of a family of backbones; one module of this package for each.

Embeddings, linear layers and norms see ``[T, H]``: the tokens of every text end to end, no
padding anywhere; attention keeps texts apart (`attention.attend`). Everything goes through the
backbone's own submodules, so parameters, hooks, adapters and exports are untouched.

Shapes: ``T`` tokens of all texts, ``Q`` queries of attention: tokens or texts, ``H`` width of a
hidden state, ``AC`` heads times the width of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.unpadded.layout import Layout

# Kinds of rotary positions whose angles depend on the longest text of a batch.
ANGLES_BY_BATCH = ("dynamic", "longrope")
# Runs the end of a layer, which treats each token by itself. It is given that end, the two tensors
# that the layer's states come from, and whether they hold only one token of each text.
RunEnd = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, bool], Tensor]


def _as_it_is(
    end: Callable[[Tensor, Tensor], Tensor], context: Tensor, residual: Tensor, range_starts: bool
) -> Tensor:
    return end(context, residual)


@dataclass(frozen=True)
class Run:
    """How the layers are run; the numbers are the same but for rounding.

    Args:
        attention: one of `attention.NAMES`.
        checkpointing: keep only each layer's input and compute the layer again in the backward.
        end: runs the end of each layer, recomputed or not, such as with a choice of its adapters.
        compiled: whether that end is compiled (`compiled_layer.compiled_on`).
    """

    attention: str = "auto"
    checkpointing: bool = False
    end: RunEnd = _as_it_is
    compiled: bool = False


class UnpaddedFamily(ABC):
    """How the backbones of some model types are run over texts that stand end to end.

    It holds no weights: every method is given the backbone or one of its layers.

    Attributes:
        feed_forward_products: matrices of hidden by inner width in a layer's feed-forward part.
        causal: whether a token attends to no later ones. The one token of a text that may be
            computed alone in the last layer is then the last, else the first.
    """

    feed_forward_products: ClassVar[int] = 2
    causal: ClassVar[bool] = False

    def alone(self, layout: Layout) -> Int[Tensor, " U"]:
        """The token of each text that may be computed alone in the last layer."""
        return layout.last if self.causal else layout.starts

    @abstractmethod
    def why_not(self, backbone: Any) -> str | None:
        """Why this backbone of the family must run padded; None when it can run unpadded."""

    @abstractmethod
    def layers(self, backbone: Any) -> list[Any]:
        """The layers, from the lowest."""

    @abstractmethod
    def attention_dropout(self, layer: Any) -> float:
        """Share of a layer's attention weights that are dropped in training."""

    @abstractmethod
    def head_width(self, layer: Any) -> int:
        """Width of a head of a layer's attention."""

    def heads_widths(self, layer: Any, hidden: int) -> tuple[int, int]:
        """Widths of all heads of a layer together: of queries, and of keys.

        Args:
            layer: one of `layers`.
            hidden: width of a hidden state.
        """
        return hidden, hidden

    def window(self, layer: Any) -> int | None:
        """How many tokens to either side a token of a layer attends to; None for all."""
        return None

    @abstractmethod
    def embed(self, backbone: Any, ids: Int[Tensor, " T"], layout: Layout) -> Float[Tensor, "T H"]:
        """The states that the first layer reads."""

    def shared(self, backbone: Any, hidden: Float[Tensor, "T H"], layout: Layout) -> Any:
        """What every layer's attention reads besides its states, made once in a forward.

        Args:
            backbone: of the family.
            hidden: what `embed` gives.
            layout: of the texts.
        """
        return None

    @abstractmethod
    def attention(
        self,
        layer: Any,
        hidden: Float[Tensor, "T H"],
        layout: Layout,
        alone: bool,
        run: Run,
        shared: Any,
    ) -> Float[Tensor, "Q AC"]:
        """The output of a layer's attention heads; with ``alone`` only for the tokens of `alone`.

        Args:
            layer: one of `layers`.
            hidden: states that the layer reads.
            layout: of the texts.
            alone: whether only one token of each text is a query (`alone`).
            run: how the layers are run.
            shared: what `shared` gives.
        """

    @staticmethod
    @abstractmethod
    def after_attention(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """The states of a layer, each token by itself, through the layer's own submodules.

        Args:
            layer: one of `layers`.
            context: what `attention` gives.
            residual: the states that the layer reads, of the same tokens.
        """

    def finish(self, backbone: Any, hidden: Float[Tensor, "Q H"]) -> Float[Tensor, "Q H"]:
        """The backbone's last hidden states, from the states of its last layer."""
        return hidden
