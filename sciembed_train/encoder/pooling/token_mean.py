"""Mean pooling: the mean of the last states of a text's tokens.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a hidden state.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling, mean_of_ranges


class Mean(Pooling):
    """The mean over a text's tokens, special ones included as in sentence-transformers."""

    export_layout = "sentence_transformers"
    sentence_transformers_mode = "mean"
    description = "the mean over tokens of the last layer"
    card_code = (
        'mask = batch["attention_mask"].unsqueeze(-1)  # the mean leaves padding out',
        "embeddings = (hidden * mask).sum(1) / mask.sum(1)",
    )

    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """See `Pooling`."""
        assert states.tokens is not None
        if states.mask is None:
            return mean_of_ranges(states.tokens, states.lengths)
        return mean_of_rows(states.tokens, states.mask)


def mean_of_rows(hidden: Float[Tensor, "U L H"], mask: Int[Tensor, "U L"]) -> Float[Tensor, "U H"]:
    """The mean state over the slots whose mask is 1; every row has at least one."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)
