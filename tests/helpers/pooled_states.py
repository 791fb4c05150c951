"""Hidden states of three texts, pooled end to end and padded."""

import torch

from sciembed_train.encoder.pooling.base import HiddenStates, pooling_class
from sciembed_train.encoder.settings import EncoderSettings

SIZES = (3, 1, 4)
LENGTHS = torch.tensor(SIZES)


def ragged() -> torch.Tensor:
    """The states of all tokens, end to end."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=draw, dtype=torch.float64, requires_grad=True)


def pool(name: str, hidden: torch.Tensor) -> torch.Tensor:
    """The texts' vectors by a pooling, of states end to end."""
    first = torch.cumsum(LENGTHS, 0) - LENGTHS
    pooling = pooling_class(name)(EncoderSettings("x", name), None)
    return pooling(HiddenStates((hidden[first],), hidden, SIZES, LENGTHS))


def pool_padded(name: str, hidden: torch.Tensor) -> torch.Tensor:
    """The same of padded states, with a large number in every slot without a token."""
    mask = (torch.arange(4) < LENGTHS.unsqueeze(1)).long()
    padded = torch.full((3, 4, 5), 1e6, dtype=torch.float64)
    padded[mask.bool()] = hidden
    pooling = pooling_class(name)(EncoderSettings("x", name), None)
    return pooling(HiddenStates((padded[:, 0],), padded, SIZES, LENGTHS, mask))
