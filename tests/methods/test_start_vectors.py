"""Vectors of the encoder that training started from: once each, and not those of now."""

import copy

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.methods.start_vectors import StartVectors

TEXTS = [f"word{i} word{i + 1}" for i in range(9)]


@pytest.fixture
def encoder(tiny_bert):
    return Encoder(EncoderSettings(str(tiny_bert), max_length=8, dropout=0.0))


def ask(start, encoder, numbers):
    rows = encoder.rows([TEXTS[abs(number)] for number in numbers])
    return start(rows, torch.tensor(numbers), torch.empty(0))


def test_each_text_is_encoded_once_and_its_vector_stays_that_of_the_start(encoder):
    start = StartVectors(encoder)
    expected = torch.nn.functional.normalize(encoder.encode_texts(TEXTS))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    # The table grows, and known texts come between new ones.
    for numbers in ([4, 1], [1, 7, 4, 0], [8, 2, 1, 6, 5], [0, 8]):
        torch.testing.assert_close(ask(start, encoder, numbers), expected[numbers])
    assert start.encoded == 8


def test_texts_without_a_number_are_not_kept(encoder):
    start = StartVectors(encoder)
    first = ask(start, encoder, [3, -2])
    again = ask(start, encoder, [3, -2])
    torch.testing.assert_close(first, again)
    assert start.encoded == 3


def test_it_takes_the_precision_of_now_and_is_shared_by_copies(encoder):
    start = StartVectors(encoder)
    rows = encoder.rows(TEXTS[:1])
    assert start(rows, torch.tensor([0]), torch.empty(0).double()).dtype == torch.float64
    assert copy.deepcopy(start) is start
