"""The first token's state."""

import torch

from tests.helpers.pooled_states import SIZES, pool, pool_padded, ragged


def test_value_and_gradient_are_those_of_the_formula():
    hidden = ragged()
    expected = torch.stack([part[0] for part in hidden.split(list(SIZES))])
    torch.testing.assert_close(pool("cls", hidden), expected)
    assert torch.autograd.gradcheck(lambda states: pool("cls", states), hidden)


def test_padding_changes_nothing():
    hidden = ragged().detach()
    torch.testing.assert_close(pool_padded("cls", hidden), pool("cls", hidden))
