"""An encoder's pooling of states that another library has computed, for comparison.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a hidden state.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.pooling.base import HiddenStates


def pooled(
    encoder: Encoder, hidden: Float[Tensor, "U L H"], mask: Int[Tensor, "U L"]
) -> Float[Tensor, "U H"]:
    """The vector of each text.

    Args:
        encoder: whose pooling reads the last layer alone.
        hidden: last states.
        mask: 1 where a row has a token.
    """
    lengths = mask.sum(1)
    sizes = tuple(lengths.tolist())
    return encoder.pooling(HiddenStates((hidden[:, 0],), hidden, sizes, lengths, mask))
