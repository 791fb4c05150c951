"""The learned mix of every layer's first-token state: its weights, and how a folder keeps them.

The weights are the 13 of a bias-free linear layer in Aspire's code. A folder keeps them in
``sciembed.json``, and its backbone in a sub-folder, so that nobody who loads the folder as a plain
model takes the last layer's state for the mixed vector.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a hidden state, ``M`` states that
are mixed: the embeddings' and each layer's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train.encoder.pooling import cls_padded
from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import EncoderSettings

# Where the backbone lies in the folder of a mix encoder: where sentence-transformers looks for the
# first module of ``st/``.
BACKBONE_PLACE = "st/0_Transformer"


def mixed_states(config: Any) -> int:
    """How many states a backbone has to mix: its layers and the embeddings, ``M``.

    Raises:
        UserError: its configuration does not tell.
    """
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(layers, int) or layers < 1:
        raise UserError(
            f"encoder.pooling is mix, but the configuration of model type {config.model_type!r} "
            "does not tell how many layers there are to mix. Use cls or mean."
        )
    return layers + 1


def new_mix(config: Any, settings: EncoderSettings, trained: list[float] | None) -> nn.Parameter:
    """The weights of the mix before the softmax, [1, M], the embeddings' first.

    Args:
        config: the backbone's configuration.
        settings: ``mix_init`` says how weights are made where there are none; ``linear`` takes
            them from torch's generator: uniform in ``+-1 / sqrt(M)``.
        trained: the weights of the backbone's folder.

    Raises:
        UserError: there are more or fewer trained weights than states.
    """
    count = mixed_states(config)
    if trained is not None:
        if len(trained) != count:
            raise UserError(
                f"{settings.backbone}: mixes {len(trained)} states, but its backbone has {count}: "
                "the embeddings' and each layer's. Export the model again."
            )
        return nn.Parameter(torch.tensor([trained]))
    weights = torch.zeros(1, count)
    if settings.mix_init == "linear":
        bound = 1 / math.sqrt(count)
        weights.uniform_(-bound, bound)
    return nn.Parameter(weights)


def padded_firsts(
    backbone: Any, inputs: dict[str, Tensor]
) -> tuple[Float[Tensor, "U L H"], list[Float[Tensor, "U H"]]]:
    """Last hidden states of all slots, and the first slot's state of each layer.

    Args:
        backbone: any that gives its hidden states.
        inputs: padded rows, as it takes them.

    Raises:
        UserError: it gives other states than its embeddings' and each layer's, of one width.
    """
    found = backbone(**inputs, output_hidden_states=True)
    states = found.hidden_states or ()
    last, count = found.last_hidden_state, mixed_states(backbone.config)
    if len(states) != count or any(s.shape != last.shape for s in states):
        raise UserError(
            f"encoder.pooling is mix, but model type {backbone.config.model_type!r} gives "
            f"{len(states)} states of a text; expected {count} of one shape: the embeddings' and "
            "each layer's. Use cls or mean."
        )
    # Copies: a view would keep the states of all slots alive.
    return last, [cls_padded(state).clone() for state in states]


def read_mix(content: dict[str, Any], where: Path) -> list[float] | None:
    """The weights in the content of a ``sciembed.json``; None where it has none.

    Raises:
        UserError: they are no list of finite numbers, or its pooling does not fit.
    """
    mixes = content.get("pooling") == "mix"
    weights = content.get("mix")
    if weights is None and not mixes:
        return None
    if (
        not mixes
        or not isinstance(weights, list)
        or not all(isinstance(w, int | float) and math.isfinite(w) for w in weights)
    ):
        raise UserError(
            f"{where}: `mix` is {str(weights)[:60]} and `pooling` {content.get('pooling')!r}; "
            "expected a list of numbers, one for each layer, with the pooling mix. Export the "
            "model again."
        )
    return [float(w) for w in weights]
