"""An encoder in training, and what it refuses to read."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.encoder.settings import EncoderSettings

TEXTS = ["word1 word2 word3", "word4", "word5 " * 40, ""]


def test_a_new_encoder_trains_with_dropout_and_a_loaded_one_evaluates(tiny_bert):
    # Lightning keeps the modes it finds; transformers hands out models in evaluation mode.
    encoder = Encoder(EncoderSettings(str(tiny_bert)))
    assert all(m.training for m in encoder.modules())
    assert not any(m.training for m in Encoder.load(tiny_bert).modules())


def test_the_pooler_is_frozen_and_keeps_its_name(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert)))
    frozen = {n for n, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}


def test_rows_longer_than_the_encoder_reads_are_refused(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=4))
    long = Encoder(EncoderSettings(str(tiny_bert))).rows(TEXTS)
    with pytest.raises(ValueError, match="max_length 4"):
        encoder(long)
    with pytest.raises(ValueError, match="no text"):
        encoder(long.select(torch.tensor([], dtype=torch.long)))


def test_unit_vectors_are_the_others_scaled_and_recorded(copy):
    plain, texts = Encoder.load(copy, "mean"), ["a text", "another one of more words"]
    unit = Encoder.load(copy, "mean", normalize=True)
    vectors = plain.encode_texts(texts)
    expected = vectors / vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit.encode_texts(texts), expected)
    assert read_metadata(copy).normalize is False
    unit.save(copy)
    assert Encoder.load(copy).settings.normalize
    assert not Encoder.load(copy, "mix").settings.normalize
