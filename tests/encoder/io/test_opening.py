"""Encoders opened as their folders record them, where the parts fit one another."""

import pytest
from safetensors.torch import load_file, save_file

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings, position_limit
from sciembed_train.errors import UserError
from tests.helpers.json_files import change


def test_arguments_of_load_take_the_place_of_what_is_recorded(tiny_bert, tmp_path):
    Encoder(EncoderSettings(str(tiny_bert), "mean", 64)).save(tmp_path)
    encoder = Encoder.load(tmp_path, pooling="cls", max_length=16, max_tokens_per_forward=99)
    assert (encoder.settings.pooling, encoder.settings.max_length) == ("cls", 16)
    assert encoder.max_tokens_per_forward == 99


def test_the_position_table_bounds_the_length(tiny_bert, tiny_roberta):
    with pytest.raises(UserError, match="positions for 512 tokens"):
        Encoder(EncoderSettings(str(tiny_bert), max_length=513))
    # RoBERTa's table of 514 loses two places to the padding index.
    with pytest.raises(UserError, match="positions for 512 tokens"):
        Encoder(EncoderSettings(str(tiny_roberta), max_length=513))
    encoder = Encoder(EncoderSettings(str(tiny_roberta), max_length=512))
    assert position_limit(encoder.backbone.config) == 512
    assert encoder.encode_texts(["a" * 600]).isfinite().all()


def test_a_length_that_special_tokens_fill_is_refused(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=3))
    assert encoder.rows(["word1 word2"]).lengths.tolist() == [3]
    encoder.tokenizer.suffix = (3, 3)
    with pytest.raises(UserError, match="special tokens alone take 3; use 4"):
        Encoder(encoder.settings, encoder.backbone, encoder.tokenizer)


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(copy):
    weights = load_file(copy / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:100].clone()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    change(copy / "config.json", vocab_size=100)
    with pytest.raises(UserError, match="embeddings for 100 tokens only"):
        Encoder(EncoderSettings(str(copy)))
