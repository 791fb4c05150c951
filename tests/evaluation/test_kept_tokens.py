import numpy as np
import torch

from sciembed_train.evaluation.kept_tokens import KeptTokens
from sciembed_train.inference.embedding import embed_texts
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.exports import encoder_of

SETTINGS = EmbedSettings(device="cpu")


def texts(count, first=0):
    return [(f"word{n}", "word1 word2 " * (n % 7)) for n in range(first, first + count)]


def unread():
    raise AssertionError("these texts are not read again")
    yield


def test_texts_are_read_once_and_embedded_by_the_weights_of_now(tiny_bert):
    encoder = encoder_of(tiny_bert)
    kept = KeptTokens(encoder)
    lists = [texts(90), texts(5, first=40)]
    kept.start_round()
    before = [kept.texts(iter(some), len(some), SETTINGS) for some in lists]
    for vectors, some in zip(before, lists, strict=True):
        np.testing.assert_array_equal(vectors, embed_texts(encoder, some, len(some), SETTINGS))
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight.add_(torch.randn(()) + 1)
        for parameter in encoder.backbone.encoder.parameters():
            parameter.mul_(1.5)
    kept.start_round()
    for vectors, some in zip(before, lists, strict=True):
        again = kept.texts(unread(), len(some), SETTINGS)
        assert not np.array_equal(again, vectors)
        np.testing.assert_array_equal(again, embed_texts(encoder, some, len(some), SETTINGS))


def test_a_list_that_the_first_round_did_not_reach_is_read_later(tiny_bert):
    encoder = encoder_of(tiny_bert)
    kept = KeptTokens(encoder)
    kept.start_round()
    kept.texts(texts(3), 3, SETTINGS)
    kept.start_round()
    kept.texts(unread(), 3, SETTINGS)
    assert kept.texts(texts(4), 4, SETTINGS).shape == (4, encoder.dim)
