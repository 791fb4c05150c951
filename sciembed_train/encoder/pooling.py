"""From the states of a text's tokens to one vector of the text.

Shapes: ``T`` tokens of all texts end to end, ``U`` texts, ``L`` slots of a padded row,
``H`` width of a hidden state, ``M`` states that are mixed: the embeddings' and each layer's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


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


def mix_shares(weights: Float[Tensor, "1 M"]) -> Float[Tensor, " M"]:
    """Each layer's share of the mixed vector, adding up to 1; fp32 at least."""
    wide = torch.promote_types(weights.dtype, torch.float32)
    return torch.softmax(weights[0].to(wide), 0)


def mix_layers(
    range_starts: Sequence[Float[Tensor, "U H"]], weights: Float[Tensor, "1 M"]
) -> Float[Tensor, "U H"]:
    """The learned mix of every layer's first-token state: ``sum_l softmax(w)_l h_l``.

    SPECTER-CoCite of Aspire, Mysore et al. (2022). No gain and no normalisation. The sum is made
    in fp32 at least, under autocast too.

    Args:
        range_starts: the first tokens' states, of the embeddings first and then of each layer.
        weights: before the softmax, one for each of ``range_starts``.
    """
    shares = mix_shares(weights)
    # Products and a sum, not a matrix product: that one autocast would lower.
    return (torch.stack(list(range_starts)).to(shares.dtype) * shares.view(-1, 1, 1)).sum(0)
