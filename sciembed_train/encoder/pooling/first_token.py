"""CLS pooling: the last state of a text's first token.

Shapes: ``U`` texts, ``H`` width of a hidden state.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling


class Cls(Pooling):
    """The last state of each text's first token."""

    reads = "first_token"
    export_layout = "sentence_transformers"
    sentence_transformers_mode = "cls"
    description = "the last hidden state of the first token (CLS) of the last layer"
    card_code = ("embeddings = hidden[:, 0]",)

    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """See `Pooling`."""
        return states.first[0]
