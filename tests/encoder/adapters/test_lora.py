"""Low-rank updates: against their equation, in both forwards, merged, and what is refused."""

import io
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, DistilBertConfig, ModernBertConfig

from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.encoder.layers import layers_by_depth
from sciembed_train.encoder.profiling.flops import training_flops
from sciembed_train.errors import UserError
from tests.helpers.unpadded_rows import assert_same, ragged, run

peft = pytest.importorskip("peft")

LENGTHS = [2, 61, 37, 37, 3, 64, 17]
TEXTS = ["word1 word2 word3", "word4 word5", "word6"]
SCALE = 3.0


def encoder_of(folder, dtype=torch.float64, rank=4, targets=(), dropout=0.0, **settings) -> Encoder:
    """An encoder whose updates are not 0."""
    lora = LoraSettings(rank, SCALE * rank, dropout, targets)
    encoder = Encoder(
        EncoderSettings(str(folder), **{"dropout": 0.0, "max_length": 64, **settings}, lora=lora)
    )
    stir(encoder)
    return encoder.to(dtype)


def stir(encoder):
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.05)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_an_encoder_begins_as_it_was(tiny_bert, forward):
    plain = EncoderSettings(str(tiny_bert), "mean", 64, forward=forward)
    settings = EncoderSettings(str(tiny_bert), "mean", 64, forward=forward, lora=LoraSettings())
    vectors = Encoder(settings).eval().encode_texts(TEXTS)
    assert torch.equal(vectors, Encoder(plain).eval().encode_texts(TEXTS))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta"])
def test_unpadded_equals_padded_with_every_gradient(name, pooling, checkpointing, request):
    folder = request.getfixturevalue(name)
    more = {"pooling": pooling, "max_tokens_per_forward": 150}
    rows = ragged(90, LENGTHS)
    unpadded = encoder_of(folder, forward="unpadded", gradient_checkpointing=checkpointing, **more)
    padded = encoder_of(folder, forward="padded", **more)
    found = run(unpadded, rows)
    assert_same(found, run(padded, rows), 1e-9)
    trained = [n for n, p in unpadded.named_parameters() if p.requires_grad]
    assert all(".lora_" in n or n.startswith("pooling.") for n in trained)
    assert all((found[1][n] is not None) == (n in trained) for n in found[1])
    linear = sum(isinstance(m, peft.tuners.lora.LoraLayer) for m in unpadded.modules())
    assert linear == 6 * len(unpadded.backbone.encoder.layer)
    assert sum(".lora_" in n for n in trained) == 2 * linear


def test_a_merged_weight_is_that_of_the_equation_and_gives_the_same_vectors(tiny_bert):
    encoder = encoder_of(tiny_bert, pooling="mean").eval()
    merged = encoder.merged()
    before = encoder.backbone.encoder.layer[1].attention.self.query
    a, b = before.lora_A["default"].weight, before.lora_B["default"].weight
    wanted = before.base_layer.weight + SCALE * torch.einsum("or,ri->oi", b, a)
    found = merged.backbone.encoder.layer[1].attention.self.query
    assert type(found) is torch.nn.Linear
    assert (found.weight - wanted).abs().max() < 1e-12
    assert (found.weight - before.base_layer.weight).abs().max() > 1e-3
    assert (merged.encode_texts(TEXTS) - encoder.encode_texts(TEXTS)).abs().max() < 1e-9
    assert merged.settings.lora is None
    assert encoder.settings.lora is not None  # it is not changed


@pytest.mark.parametrize("pooling", ["cls", "mix"])
def test_a_saved_folder_is_a_plain_one_with_the_same_vectors(tiny_bert, tmp_path, pooling):
    encoder = encoder_of(tiny_bert, torch.float32, pooling=pooling).eval()
    encoder.save(tmp_path / "m")
    again = Encoder.load(tmp_path / "m")
    assert again.settings.lora is None
    vectors = encoder.encode_texts(TEXTS)
    assert (again.encode_texts(TEXTS) - vectors).abs().max() < 1e-5
    start = Encoder(EncoderSettings(str(tiny_bert), pooling, 64)).eval()
    assert (start.encode_texts(TEXTS) - vectors).abs().max() > 1e-2
    place = tmp_path / "m" / ("base" if pooling == "mix" else "")
    if pooling == "cls":
        assert load_file(place / "model.safetensors").keys() == (
            load_file(tiny_bert / "model.safetensors").keys()
        )


@pytest.mark.parametrize("masked_lm", [False, True])
def test_a_checkpoint_gives_the_merged_encoder_without_its_backbone(tiny_bert, masked_lm):
    lora = LoraSettings(3, 6.0, 0.2, ("query", "value"))
    settings = EncoderSettings(str(tiny_bert), "mean", 40, dropout=0.3, lora=lora)
    encoder = Encoder(settings, masked_lm=masked_lm)
    stir(encoder)
    heads = {n for n, p in encoder.named_parameters() if p.requires_grad and ".lora_" not in n}
    assert all(n.startswith("head.") for n in heads)
    assert bool(heads) == masked_lm
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    stored = io.BytesIO()
    torch.save({"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, stored)
    stored.seek(0)
    content = torch.load(stored, weights_only=True)
    content["sciembed"]["encoder"]["backbone"] = "a folder that is gone"
    again = encoder_from_checkpoint(content)
    assert again.settings.lora is None
    vectors = encoder.eval().encode_texts(TEXTS)
    assert (again.encode_texts(TEXTS) - vectors).abs().max() < 1e-5
    plain = Encoder(EncoderSettings(str(tiny_bert), "mean", 40), masked_lm=masked_lm)
    assert again.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (DistilBertConfig(300, 64, n_layers=2, n_heads=2, dim=16, hidden_dim=32), 12),
        (ModernBertConfig(300, 16, 32, num_hidden_layers=3, num_attention_heads=2), 12),
    ],
    ids=["distilbert", "modernbert"],
)
def test_other_backbones_are_updated_too(tiny_bert, tmp_path, config, layers):
    config.pad_token_id = 0  # the tokenizer's
    folder = shutil.copytree(tiny_bert, tmp_path / "m")
    AutoModel.from_config(config).save_pretrained(folder)
    encoder = encoder_of(folder, torch.float32, pooling="mean").eval()
    assert encoder.unpadded == (config.model_type == "modernbert")
    assert sum(isinstance(m, peft.tuners.lora.LoraLayer) for m in encoder.modules()) == layers
    vectors = encoder.encode_texts(TEXTS)
    assert (encoder.merged().encode_texts(TEXTS) - vectors).abs().max() < 1e-5
    start = Encoder(EncoderSettings(str(folder), "mean", 64)).eval()
    assert (start.encode_texts(TEXTS) - vectors).abs().max() > 1e-4


def test_half_precision_has_the_same_updates(tiny_bert):
    encoder, rows = encoder_of(tiny_bert, torch.float32, pooling="mean"), ragged(90, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        low, low_gradients = run(encoder, rows)
    vectors, gradients = run(encoder, rows)
    assert (low - vectors).abs().max() < 0.03 * vectors.abs().max()
    for name, gradient in gradients.items():
        if gradient is not None:
            assert (low_gradients[name] - gradient).norm() < 0.1 * gradient.norm(), name


def test_targets_are_names_or_their_ends(tiny_bert):
    encoder = encoder_of(tiny_bert, targets=("query", "attention.output.dense"))
    wrapped = {
        n.partition(".layer.")[2]
        for n, m in encoder.backbone.named_modules()
        if isinstance(m, peft.tuners.lora.LoraLayer)
    }
    assert wrapped == {
        f"{i}.attention.{end}"
        for i in range(len(encoder.backbone.encoder.layer))
        for end in ("self.query", "output.dense")
    }
    with pytest.raises(UserError, match=r"no linear layer q_proj in its layers; they have dense, "):
        encoder_of(tiny_bert, targets=("query", "q_proj"))


def test_dropout_is_of_the_updates_alone_and_only_in_training(tiny_bert):
    encoder = encoder_of(tiny_bert, dropout=0.5)
    rows = ragged(90, LENGTHS)
    with torch.no_grad():
        assert not torch.equal(encoder(rows), encoder(rows))
        encoder.eval()
        assert torch.equal(encoder(rows), encoder(rows))


def test_layers_and_operations_are_those_of_the_backbone(tiny_bert):
    encoder, plain = encoder_of(tiny_bert), Encoder(EncoderSettings(str(tiny_bert), max_length=64))
    layers, plainly = layers_by_depth(encoder.backbone), layers_by_depth(plain.backbone)
    assert [(one.name, one.depth) for one in layers] == [(o.name, o.depth) for o in plainly]
    own = {id(p) for one in layers if one.name.startswith("layer") for p in one.parameters}
    assert all(id(p) in own for p in encoder.parameters() if p.requires_grad)
    lengths = torch.tensor(LENGTHS)
    frozen, whole = training_flops(encoder, lengths), training_flops(plain, lengths)
    assert frozen is not None
    assert whole is not None
    assert whole / 2 < frozen < whole


def test_an_absent_library_is_named(tiny_bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"Install sciembed_train\[lora\], or set encoder.lora"):
        Encoder(EncoderSettings(str(tiny_bert), lora=LoraSettings()))
