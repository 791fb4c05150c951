"""Encoders opened as their folders record them, where the parts fit one another."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings, position_limit
from sciembed_train.errors import UserError
from tests.helpers.json_files import change
from tests.helpers.tiny_models import DECODERS, decoder_config, write_tiny_decoder


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


@pytest.mark.parametrize("pooling", ["cls", "mix"])
def test_first_tokens_of_a_decoder_are_no_vectors(tiny_qwen3, pooling):
    with pytest.raises(UserError, match=rf"pooling is {pooling}, but .* sees nothing of a text"):
        Encoder(EncoderSettings(str(tiny_qwen3), pooling))


def test_a_decoder_has_no_adapters_codes_and_masked_words(tiny_qwen3):
    pytest.importorskip("adapters")
    adapters = AdapterSettings(("proximity",))
    with pytest.raises(UserError, match=r"encoder\.adapters is set, .* by encoder\.lora"):
        Encoder(EncoderSettings(str(tiny_qwen3), "mean", adapters=adapters))
    with pytest.raises(UserError, match="Use last or mean"):
        Encoder(EncoderSettings(str(tiny_qwen3), "cls", control_codes=True))
    with pytest.raises(UserError, match="head of model type 'qwen3' is not known here"):
        Encoder(EncoderSettings(str(tiny_qwen3), "last"), masked_lm=True)


def test_a_decoder_that_records_nothing_is_read_by_its_last_tokens(tmp_path):
    folder = write_tiny_decoder(tmp_path, "llama")
    settings = Encoder.load(folder).settings
    assert (settings.pooling, settings.max_length, settings.normalize) == ("last", 512, False)


def test_a_length_beyond_the_positions_is_cut_to_them(tiny_qwen3):
    content = json.loads((tiny_qwen3 / "tokenizer_config.json").read_text())
    assert content["model_max_length"] == 131072
    assert Encoder.load(tiny_qwen3).settings.max_length == 600


def test_a_decoder_gives_vectors_of_sentences(tiny_qwen3):
    papers = [("word1", ["word2 word3.", "word4 word5 word6."])]
    (vectors,) = Encoder.load(tiny_qwen3, "sentences", normalize=False).encode_sentences(papers)
    # Tokens see what is before them alone: the first sentence does not know the second.
    first = Encoder.load(tiny_qwen3, "sentences", normalize=False)
    (other,) = first.encode_sentences([("word1", ["word2 word3.", "word7."])])
    torch.testing.assert_close(vectors[0], other[0])
    assert not torch.allclose(vectors[1], other[1])


def test_weights_of_a_model_with_a_language_head_are_read_without_it(tmp_path):
    from transformers import AutoModelForCausalLM

    for kind in DECODERS:
        folder = write_tiny_decoder(tmp_path / kind, kind)
        config = decoder_config(kind, Encoder.load(folder).tokenizer.vocab_size)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder)
        encoder = Encoder.load(folder)
        inner = dict(model.model.named_parameters())
        assert dict(encoder.backbone.named_parameters()).keys() == inner.keys()
        for name, parameter in encoder.backbone.named_parameters():
            assert torch.equal(parameter, inner[name]), name
