"""Poolings of states that stand end to end, and of padded ones."""

import pytest
import torch

from sciembed_train.encoder.pooling.base import HiddenStates, pooling_class
from sciembed_train.encoder.pooling.registry import (
    POOLINGS,
    check_recorded,
    gives_sentence_vectors,
    import_pooling,
)
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError

SIZES = (3, 1, 4)
LENGTHS = torch.tensor(SIZES)


def ragged() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=draw, dtype=torch.float64, requires_grad=True)


def pool(name: str, hidden: torch.Tensor) -> torch.Tensor:
    first = torch.cumsum(LENGTHS, 0) - LENGTHS
    pooling = pooling_class(name)(EncoderSettings("x", name), None)
    return pooling(HiddenStates((hidden[first],), hidden, SIZES, LENGTHS))


def test_pooling_equals_plain_loops():
    hidden = ragged()
    parts = hidden.split(list(SIZES))
    torch.testing.assert_close(pool("cls", hidden), torch.stack([p[0] for p in parts]))
    torch.testing.assert_close(pool("mean", hidden), torch.stack([p.mean(0) for p in parts]))


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_gradients_of_pooling_are_those_of_its_formula(name):
    assert torch.autograd.gradcheck(lambda hidden: pool(name, hidden), ragged())


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_padded_pooling_equals_unpadded_whatever_stands_in_the_padding(name):
    hidden = ragged().detach()
    mask = (torch.arange(4) < LENGTHS.unsqueeze(1)).long()
    padded = torch.full((3, 4, 5), 1e6, dtype=torch.float64)
    padded[mask.bool()] = hidden
    pooling = pooling_class(name)(EncoderSettings("x", name), None)
    found = pooling(HiddenStates((padded[:, 0],), padded, SIZES, LENGTHS, mask))
    torch.testing.assert_close(found, pool(name, hidden))


def test_states_end_to_end_are_padded_on_request():
    rows, mask = HiddenStates((), ragged(), SIZES, LENGTHS).padded()
    assert rows.shape == (3, 4, 5)
    assert mask.sum(1).tolist() == list(SIZES)
    torch.testing.assert_close(rows[mask.bool()], ragged())


def test_the_registry_and_the_classes_agree_on_sentence_vectors():
    for name, entry in POOLINGS.items():
        assert (
            entry.per_sentence == pooling_class(name).per_sentence == gives_sentence_vectors(name)
        )


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


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="cls, mean, mix, sentences, or the import path"):
        EncoderSettings("x", "max")


def test_a_model_cannot_have_a_module_imported_by_naming_it():
    with pytest.raises(UserError, match="import its module first"):
        check_recorded("this.Zen", "sciembed.json")
    assert check_recorded("mean", "sciembed.json") == "mean"
    assert import_pooling("cls") is pooling_class("cls")
