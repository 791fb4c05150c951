"""Poolings that are no part of the package, for tests of what a new one has to touch: nothing."""

import torch
from torch import nn

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling


class MaxPooling(Pooling):
    """The largest value of each dimension over a text's tokens; sentence-transformers has it."""

    export_layout = "sentence_transformers"
    sentence_transformers_mode = "max"
    description = "the maximum over tokens of the last layer"
    card_code = (
        'hidden[batch["attention_mask"] == 0] = -torch.inf',
        "embeddings = hidden.amax(1)",
    )

    def forward(self, states: HiddenStates) -> torch.Tensor:
        """See `Pooling`."""
        hidden, mask = states.padded()
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)


class AttentionPooling(Pooling):
    """The mean over tokens by learned weights; no library but this one has it."""

    learned = True
    description = "a learned weighted mean over tokens of the last layer"

    def __init__(self, settings, config):
        super().__init__(settings, config)
        self.query = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, states: HiddenStates) -> torch.Tensor:
        """See `Pooling`."""
        hidden, mask = states.padded()
        scores = (hidden @ self.query).masked_fill(mask == 0, -torch.inf)
        return (scores.softmax(1).unsqueeze(-1) * hidden).sum(1)
