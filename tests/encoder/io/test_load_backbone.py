"""What of a folder's weights, configuration and tokenizer is read and what is refused."""

import dataclasses
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from tests.helpers.json_files import change

TEXTS = ["word1 word2 word3", "word4", "word5 " * 40, ""]


def test_weights_that_lack_a_tensor_are_refused_and_never_random(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors .*encoder\.layer\.1\.output\.dense\.weight"):
        Encoder(EncoderSettings(str(copy)))


def test_weights_of_another_shape_are_refused(copy):
    change(copy / "config.json", intermediate_size=48)
    with pytest.raises(UserError, match=r"copy: .*"):
        Encoder(EncoderSettings(str(copy)))


def test_a_missing_pooler_is_left_out_and_not_invented(copy, tmp_path):
    weights = load_file(copy / "model.safetensors")
    weights = {k: v for k, v in weights.items() if not k.startswith("pooler.")}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    encoder = Encoder(EncoderSettings(str(copy)))
    assert all(p.requires_grad for p in encoder.parameters())
    encoder.save(tmp_path / "out")
    assert load_file(tmp_path / "out/model.safetensors").keys() == weights.keys()


def test_old_bin_weights_are_read_when_they_hold_tensors_only(copy, tiny_bert):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    want = Encoder.load(tiny_bert).encode_texts(TEXTS)
    torch.testing.assert_close(Encoder.load(copy).encode_texts(TEXTS), want, rtol=0, atol=0)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_bin_weights_that_would_run_code_are_refused_and_do_not_run(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    mark = tmp_path / "harmed"
    torch.save({"x": Harm(str(mark))}, copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="could not be loaded"):
        Encoder(EncoderSettings(str(copy)))
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"\xff" * 64])
def test_damaged_weights_are_named(copy, content):
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"copy: .*(safetensors|loaded)"):
        Encoder(EncoderSettings(str(copy)))


def test_a_folder_without_weights_or_configuration_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        Encoder(EncoderSettings(str(copy)))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        Encoder(EncoderSettings(str(copy)))


def test_an_unknown_model_type_or_tokenizer_is_refused(copy):
    change(copy / "config.json", model_type="no-such-model")
    with pytest.raises(UserError, match=r"config\.json: .*'no-such-model'"):
        Encoder(EncoderSettings(str(copy)))
    change(copy / "config.json", model_type="bert")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(UserError):
        Encoder(EncoderSettings(str(copy)))


def test_the_dropout_setting_reaches_hidden_states_and_attention(tiny_bert):
    settings = EncoderSettings(str(tiny_bert))
    own = Encoder(settings).backbone.encoder.layer[0]
    assert (own.attention.self.dropout.p, own.output.dropout.p) == (0.1, 0.1)
    other = Encoder(dataclasses.replace(settings, dropout=0.25)).backbone.encoder.layer[0]
    assert (other.attention.self.dropout.p, other.output.dropout.p) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("key", "value"),
    [("intermediate_size", 1_000_000), ("vocab_size", 4_000_000), ("hidden_size", 32768)],
)
def test_a_model_larger_than_its_weights_is_refused_before_it_takes_memory(copy, key, value):
    change(copy / "config.json", **{key: value})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"parameters, but its weights have [\d,]+ bytes in all"):
        Encoder(EncoderSettings(str(copy)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_sizes_that_do_not_go_together_are_a_message(copy):
    change(copy / "config.json", num_attention_heads=3)
    with pytest.raises(UserError, match=r"cannot build a model of it: .*(multiple|heads)"):
        Encoder(EncoderSettings(str(copy)))
