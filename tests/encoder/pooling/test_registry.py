"""Poolings by name and by import path."""

import pytest

from sciembed_train.encoder.pooling.base import pooling_class
from sciembed_train.encoder.pooling.registry import (
    POOLINGS,
    check_recorded,
    gives_sentence_vectors,
    import_pooling,
)
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError


def test_the_registry_and_the_classes_agree_on_sentence_vectors():
    for name, entry in POOLINGS.items():
        assert (
            entry.per_sentence == pooling_class(name).per_sentence == gives_sentence_vectors(name)
        )


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="cls, mean, last, mix, sentences, or the import path"):
        EncoderSettings("x", "max")


def test_a_model_cannot_have_a_module_imported_by_naming_it():
    with pytest.raises(UserError, match="import its module first"):
        check_recorded("this.Zen", "sciembed.json")
    assert check_recorded("mean", "sciembed.json") == "mean"
    assert import_pooling("cls") is pooling_class("cls")
