"""Last-token pooling, as decoders are used: the last state of a text's last token.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a hidden state.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling


class LastToken(Pooling):
    """The last state of each text's last token: the end token, where the tokenizer appends one."""

    reads = "last_token"
    export_layout = "sentence_transformers"
    sentence_transformers_mode = "lasttoken"
    description = "the last hidden state of the last token of the last layer"
    card_code = (
        'mask = batch["attention_mask"]',
        "last = mask.cumsum(1).argmax(1)  # on whichever side the padding is",
        "embeddings = hidden[torch.arange(len(hidden)), last]",
    )

    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """See `Pooling`."""
        assert states.last is not None
        return states.last


def last_of_rows(hidden: Float[Tensor, "U L H"], mask: Int[Tensor, "U L"]) -> Float[Tensor, "U H"]:
    """The state in the last slot whose mask is 1, whichever side is padded; each row has one."""
    slots = torch.arange(mask.shape[1], device=mask.device)
    last = (slots * mask).argmax(1)
    # Gathered, so that an ONNX graph takes any number of rows.
    return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)
