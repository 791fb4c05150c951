"""Poolings of states that stand end to end, and of padded ones."""

import pytest
import torch

from sciembed_train.encoder.pooling.base import HiddenStates, pooling_class
from sciembed_train.errors import UserError
from tests.helpers.pooled_states import LENGTHS, SIZES, ragged


def test_states_end_to_end_are_padded_on_request():
    rows, mask = HiddenStates((), ragged(), SIZES, LENGTHS).padded()
    assert rows.shape == (3, 4, 5)
    assert mask.sum(1).tolist() == list(SIZES)
    torch.testing.assert_close(rows[mask.bool()], ragged())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such.module.Max", "cannot be imported"),
        ("torch.nn.NoSuchLayer", "cannot be imported"),
        ("torch.nn.Linear", "no subclass"),
    ],
)
def test_what_is_no_pooling_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        pooling_class(name)
