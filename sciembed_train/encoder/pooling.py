"""From the states of a text's tokens to one vector of the text.

Shapes: ``T`` tokens of all texts end to end, ``U`` texts, ``L`` slots of a padded row,
``H`` width of a hidden state.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Pooling names of recipes, exports and sentence-transformers alike.
POOLINGS = ("cls", "mean")


def first_tokens(lengths: Int[Tensor, " U"]) -> Int[Tensor, " U"]:
    """Where each text starts in a flat list of tokens."""
    return torch.cumsum(lengths, 0) - lengths


def cls_ragged(hidden: Float[Tensor, "T H"], lengths: Int[Tensor, " U"]) -> Float[Tensor, "U H"]:
    """The state of each text's first token."""
    return hidden.index_select(0, first_tokens(lengths))


def mean_ragged(hidden: Float[Tensor, "T H"], lengths: Int[Tensor, " U"]) -> Float[Tensor, "U H"]:
    """The mean state of each text's tokens, special ones included as in sentence-transformers."""
    return torch.segment_reduce(hidden, "mean", lengths=lengths, unsafe=True)


def cls_padded(hidden: Float[Tensor, "U L H"]) -> Float[Tensor, "U H"]:
    """The state of each row's first slot."""
    return hidden[:, 0]


def mean_padded(hidden: Float[Tensor, "U L H"], mask: Int[Tensor, "U L"]) -> Float[Tensor, "U H"]:
    """The mean state over the slots whose mask is 1; every row has at least one."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)
