"""Layer-mix pooling: a learned mix of the first token's states after every layer.

The weights are the 13 of a bias-free linear layer in Aspire's code. A folder keeps them in
``sciembed.json``, and its backbone in a sub-folder, so that nobody who loads the folder as a plain
model takes the last layer's state for the mixed vector.

Shapes: ``U`` texts, ``H`` width of a hidden state, ``M`` states that are mixed: the embeddings' and
each layer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError


class LayerMix(Pooling):
    """``sum_l softmax(w)_l h_l`` of the first token's states: SPECTER-CoCite of Aspire.

    Args:
        settings: ``mix_init`` is how weights are made where there are none: equal, or ``linear``,
            drawn from torch's generator, uniform in ``+-1 / sqrt(M)``.
        config: the backbone's configuration.
        weights: trained ones, before the softmax.

    Attributes:
        mix: the weights before the softmax, [1, M], the embeddings' first.

    Raises:
        UserError: the number of layers is unknown, or there are more or fewer weights than states.
    """

    reads = "first_token_of_layers"
    learned = True
    export_layout = "layer_mix"
    # Where sentence-transformers looks for the first module of ``st/``.
    backbone_place = "st/0_Transformer"
    # So that sentence-transformers hands every layer to its own pooling.
    saved_config: ClassVar[Mapping[str, Any]] = {"output_hidden_states": True}
    description = "a learned mix of the states of the first token (CLS) after every layer"
    card_code = ("embeddings = hidden[:, 0]",)  # of hidden states that are mixed already

    def __init__(
        self, settings: EncoderSettings, config: Any, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(settings, config)
        count = layer_states(config)
        if weights is not None and len(weights) != count:
            raise UserError(
                f"{settings.backbone}: mixes {len(weights)} states, but its backbone has {count}: "
                "the embeddings' and each layer's. Export the model again."
            )
        values = torch.zeros(1, count) if weights is None else torch.tensor([weights])
        if weights is None and settings.mix_init == "linear":
            bound = 1 / math.sqrt(count)
            values.uniform_(-bound, bound)
        self.mix = nn.Parameter(values)

    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """See `Pooling`."""
        return mix_layers(states.first, self.mix)

    def shares(self) -> Float[Tensor, " M"]:
        """Each layer's share of the mixed vector, adding up to 1."""
        return mix_shares(self.mix.detach())

    def save(self, folder: Path) -> dict[str, Any]:
        """See `Pooling`."""
        # A shortest decimal gives back the very same float.
        return {"mix": self.mix.detach()[0].tolist()}

    @classmethod
    def load(
        cls, folder: Path, record: Mapping[str, Any], settings: EncoderSettings, config: Any
    ) -> LayerMix:
        """See `Pooling`."""
        weights = record.get("mix")
        if not isinstance(weights, list) or not all(
            isinstance(w, int | float) and math.isfinite(w) for w in weights
        ):
            raise UserError(
                f"{folder / 'sciembed.json'}: `mix` is {str(weights)[:60]}; expected a list of "
                "numbers, one for each layer. Export the model again."
            )
        return cls(settings, config, [float(w) for w in weights])


def layer_states(config: Any) -> int:
    """How many states of a token a backbone gives: the embeddings' and each layer's, ``M``.

    Raises:
        UserError: its configuration does not name the number of layers.
    """
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(layers, int) or layers < 1:
        raise UserError(
            f"encoder.pooling is mix, but the configuration of model type {config.model_type!r} "
            "has no number of layers to mix. Use cls or mean."
        )
    return layers + 1


def mix_shares(weights: Float[Tensor, "1 M"]) -> Float[Tensor, " M"]:
    """Each layer's share of the mixed vector, adding up to 1; fp32 at least."""
    dtype = torch.promote_types(weights.dtype, torch.float32)
    return torch.softmax(weights[0].to(dtype), 0)


def mix_layers(
    first: Sequence[Float[Tensor, "U H"]], weights: Float[Tensor, "1 M"]
) -> Float[Tensor, "U H"]:
    """The learned mix of every layer's first-token state: ``sum_l softmax(w)_l h_l``.

    SPECTER-CoCite of Aspire, Mysore et al. (2022). No gain and no normalisation. The sum is made
    in fp32 at least, under autocast too.

    Args:
        first: the first tokens' states, of the embeddings first and then of each layer.
        weights: before the softmax, one for each of ``first``.
    """
    shares = mix_shares(weights)
    # Products and a sum: autocast would lower the precision of a matrix product.
    return (torch.stack(list(first)).to(shares.dtype) * shares.view(-1, 1, 1)).sum(0)
