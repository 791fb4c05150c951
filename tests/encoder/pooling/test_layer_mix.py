"""The learned mix of every layer's first-token state, against transformers and by hand."""

import dataclasses
import io
import json
import logging
import math
import weakref

import pytest
import torch
from torch import nn

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.encoder.pooling.layer_mix import mix_layers
from sciembed_train.errors import UserError
from tests.helpers.masked_models import TYPES, write_masked_lm
from tests.helpers.unpadded_rows import assert_same, multiplied, ragged, run

LENGTHS = [7, 40, 3, 40, 12, 25]
TEXTS = ["word1 word2 word3", "word4 " * 30, "word5"]
UNLIKE = [[0.3, -1.2, 0.8]]


def settings_of(folder, **changes):
    values = {"pooling": "mix", "max_length": 64, "dropout": 0.0, "max_tokens_per_forward": 60}
    return EncoderSettings(str(folder), **{**values, **changes})


def mixing(folder, weights=UNLIKE, **changes):
    """An encoder whose layers have clearly different shares."""
    encoder = Encoder(settings_of(folder, **changes))
    with torch.no_grad():
        encoder.pooling.mix.copy_(torch.tensor(weights))
    return encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: write_masked_lm(tmp_path_factory.mktemp(kind), kind) for kind in TYPES}


def layers_of(model, ids):
    """The embeddings' states and each layer's, the last ones as the model's last hidden states."""
    found = model(input_ids=ids[None], output_hidden_states=True)
    # In transformers 4 ModernBERT's list ends before the norm above its layers.
    return (*found.hidden_states[:-1], found.last_hidden_state)


def by_hand(folder, rows: TokenRows, weights: torch.Tensor):
    """The vectors from transformers' own hidden states, one text at a time; and its model."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).double().eval()
    vectors = []
    for ids in rows.ids.split(rows.lengths.tolist()):
        states = layers_of(model, ids)
        assert len(states) == 3
        total = sum(math.exp(w) for w in weights[0].tolist())
        vector = torch.zeros(32, dtype=torch.float64)
        for weight, state in zip(weights[0], states, strict=True):
            vector = vector + weight.exp() / total * state[0, 0]
        vectors.append(vector)
    return torch.stack(vectors), model


@pytest.mark.parametrize(
    ("kind", "forward", "checkpointing"),
    [(kind, "padded", False) for kind in sorted(TYPES)]
    + [(kind, "unpadded", False) for kind in sorted(set(TYPES) - {"distilbert", "mpnet"})]
    + [("distilbert", "padded", True), ("bert", "padded", True), ("bert", "unpadded", True)],
)
def test_vectors_and_gradients_are_those_of_the_plain_formula(
    folders, kind, forward, checkpointing
):
    encoder = mixing(folders[kind], forward=forward, gradient_checkpointing=checkpointing)
    encoder.double().train()
    rows = ragged(250, LENGTHS)
    vectors, grads = run(encoder, rows)

    weights = torch.tensor(UNLIKE, dtype=torch.float32).double()
    want, model = by_hand(folders[kind], rows, weights)
    torch.testing.assert_close(vectors, want.detach(), rtol=0, atol=1e-9)
    draw = torch.Generator().manual_seed(9)
    factors = torch.randn(want.shape, generator=draw, dtype=torch.float64)
    (want * factors).sum().backward()
    expected = {f"backbone.{name}": p.grad for name, p in model.named_parameters()}
    # By hand too: d/dw_l of sum_k s_k a_k is s_l (a_l - sum_k s_k a_k).
    states = []
    with torch.no_grad():
        for ids in rows.ids.split(LENGTHS):
            found = layers_of(model, ids)
            states.append(torch.stack([state[0, 0] for state in found]))
    along = (torch.stack(states) * factors[:, None]).sum((0, 2))
    shares = weights[0].softmax(0)
    expected["pooling.mix"] = (shares * (along - (shares * along).sum()))[None]
    for name, grad in grads.items():
        if "pooler" in name:
            assert grad is None
            continue
        assert grad is not None, name
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 5e-5)])
def test_packed_equals_padded_in_any_pieces(tiny_roberta, dtype, tolerance):
    both = [
        run(
            mixing(tiny_roberta, forward=forward, max_tokens_per_forward=budget).to(
                getattr(torch, dtype)
            ),
            ragged(250, LENGTHS),
        )
        for forward, budget in (("unpadded", 1), ("padded", 130))
    ]
    assert_same(*both, tolerance)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_states_of_tokens_are_the_last_layers_and_the_vectors_stay_the_mix(folders, forward):
    encoder = mixing(folders["bert"], forward=forward).double()
    rows = ragged(250, LENGTHS)
    positions = torch.tensor([0, 5, 8, 60, 126])
    vectors, states = encoder.with_token_states(rows, positions)
    torch.testing.assert_close(vectors, encoder(rows), rtol=0, atol=1e-12)
    last = Encoder(settings_of(folders["bert"], pooling="cls")).double()
    want = last.with_token_states(rows, positions)[1]
    torch.testing.assert_close(states, want, rtol=0, atol=1e-12)


def test_a_head_is_trained_beside_the_mix(folders):
    encoder = Encoder(settings_of(folders["bert"]), masked_lm=True)
    vectors, states = encoder.with_token_states(ragged(250, LENGTHS), torch.tensor([1, 2]))
    (encoder.token_logits(states).square().sum() + vectors.square().sum()).backward()
    lacking = {n for n, p in encoder.named_parameters() if p.grad is None}
    assert lacking == set()


def test_of_the_last_layer_only_first_tokens_are_computed(tiny_bert):
    rows = ragged(250, LENGTHS)
    seen = multiplied(mixing(tiny_bert), rows)
    cls = multiplied(Encoder(settings_of(tiny_bert, pooling="cls")), rows)
    assert seen == cls
    assert seen["layer.1.intermediate.dense"] == len(rows)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_only_first_tokens_of_a_layer_outlive_it(forward, tiny_bert, monkeypatch):
    # In inference, no state of another token stays until the mix is made.
    encoder = mixing(tiny_bert, forward=forward, max_tokens_per_forward=None)
    layers, alive = [], []
    for layer in encoder.backbone.encoder.layer:
        layer.output.register_forward_hook(lambda m, given, out: layers.append(weakref.ref(out)))

    def watch(range_starts, weights):
        alive.append(layers[0]() is not None)
        assert {first.untyped_storage().nbytes() for first in range_starts} == {
            len(LENGTHS) * 32 * 4
        }
        return mix_layers(range_starts, weights)

    monkeypatch.setattr("sciembed_train.encoder.pooling.layer_mix.mix_layers", watch)
    encoder.encode_rows(ragged(250, LENGTHS))
    assert alive == [False]


def test_shares_far_apart_leave_one_layer_alone(tiny_bert):
    rows = ragged(250, LENGTHS)
    last = Encoder(settings_of(tiny_bert, pooling="cls")).double()(rows)
    alone = mixing(tiny_bert, [[-60.0, -60.0, 60.0]]).double()(rows)
    torch.testing.assert_close(alone, last, rtol=0, atol=1e-12)


def test_the_mix_is_summed_in_fp32_under_autocast(tiny_bert):
    # Half of many small differences would be lost in bf16's 8 bits.
    range_starts = [torch.full((2, 4), 1 + n * 2**-7, dtype=torch.bfloat16) for n in range(3)]
    weights = torch.zeros(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mix_layers(range_starts, weights)
        rows = ragged(250, LENGTHS)
        assert mixing(tiny_bert)(rows).dtype == torch.float32
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, torch.full((2, 4), 1 + 2**-7), rtol=0, atol=1e-6)
    assert mix_layers(range_starts, weights.bfloat16()).dtype == torch.float32
    doubles = [f.double() for f in range_starts]
    assert mix_layers(doubles, weights.double()).dtype == torch.float64


def test_autocast_is_near_fp32_and_the_mix_gets_its_gradient(tiny_bert):
    rows = ragged(250, LENGTHS)
    exact, grads = run(mixing(tiny_bert), rows)
    with torch.autocast("cpu", torch.bfloat16):
        near, near_grads = run(mixing(tiny_bert), rows)
    assert 0 < (near - exact).abs().max() < 0.1
    assert grads["pooling.mix"].dtype == near_grads["pooling.mix"].dtype == torch.float32
    assert (near_grads["pooling.mix"] - grads["pooling.mix"]).abs().max() < 0.1 * grads[
        "pooling.mix"
    ].abs().max()


def test_a_new_mix_is_equal_or_drawn_as_a_linear_layers_weights(tiny_bert):
    encoder = Encoder(settings_of(tiny_bert))
    assert torch.equal(encoder.pooling.mix, torch.zeros(1, 3))
    assert isinstance(encoder.pooling.mix, nn.Parameter)
    torch.manual_seed(5)
    want = nn.Linear(3, 1, bias=False).weight
    torch.manual_seed(5)
    drawn = Encoder(settings_of(tiny_bert, mix_init="linear")).pooling.mix
    torch.testing.assert_close(drawn, want, rtol=0, atol=1e-6)
    assert 0 < drawn.abs().max() <= 1 / math.sqrt(3)
    assert not Encoder(settings_of(tiny_bert, pooling="cls")).pooling.learned


def test_a_drawn_mix_without_a_mix_is_refused():
    with pytest.raises(UserError, match=r"mix_init is 'linear'.*pooling is cls"):
        EncoderSettings("x", mix_init="linear")
    with pytest.raises(UserError, match="mix_init is 'zeros'"):
        EncoderSettings("x", "mix", mix_init="zeros")


def test_a_backbone_with_other_states_is_refused(tiny_bert):
    encoder = mixing(tiny_bert, forward="padded")
    encoder.backbone.config.num_hidden_layers = 3
    with pytest.raises(UserError, match="gives 3 states of a text; expected 4"):
        encoder.encode_texts(TEXTS)


@pytest.mark.parametrize("dropout", [None, 0.3])
def test_a_saved_mix_comes_back_to_the_bit(folders, tmp_path, dropout):
    encoder = mixing(folders["bert"], [[0.1, -1 / 3, 1e-7]], dropout=dropout)
    encoder.save(tmp_path / "m", {"method": "x"})
    again = Encoder.load(tmp_path / "m")
    assert again.settings.pooling == "mix"
    assert torch.equal(again.pooling.mix, encoder.pooling.mix)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert again.backbone.config.output_hidden_states is False
    assert encoder.backbone.config.output_hidden_states is False
    # To go on with training: a recipe names the folder as its backbone.
    further = Encoder(settings_of(tmp_path / "m", mix_init="linear"))
    assert torch.equal(further.pooling.mix, encoder.pooling.mix)
    assert further.pooling.mix.requires_grad
    # And once more from there.
    further.save(tmp_path / "n")
    assert torch.equal(Encoder.load(tmp_path / "n").pooling.mix, encoder.pooling.mix)


def test_a_head_is_saved_with_the_mix(folders, tmp_path):
    encoder = Encoder(settings_of(folders["roberta"]), masked_lm=True)
    encoder.save(tmp_path / "m")
    again = Encoder.load(tmp_path / "m", masked_lm="auto")
    assert again.head is not None
    states = encoder.state_dict()
    assert again.state_dict().keys() == states.keys()
    assert all(torch.equal(tensor, states[name]) for name, tensor in again.state_dict().items())


def test_the_folder_is_no_plain_model_to_anybody(tiny_bert, tmp_path):
    from transformers import AutoModel

    mixing(tiny_bert).save(tmp_path / "m")
    for folder in (tmp_path / "m", tmp_path / "m" / "st"):
        with pytest.raises((OSError, ValueError)):
            AutoModel.from_pretrained(folder, local_files_only=True)
    # Nor may one hide below a plain model that was there before.
    Encoder(settings_of(tiny_bert, pooling="cls")).save(tmp_path / "plain")
    with pytest.raises(UserError, match="plain model already"):
        mixing(tiny_bert).save(tmp_path / "plain")


def test_another_pooling_of_a_mix_is_named_and_so_is_a_mix_of_nothing(tiny_bert, tmp_path, caplog):
    mixing(tiny_bert).save(tmp_path / "m")
    with caplog.at_level(logging.WARNING, "sciembed_train"):
        cls = Encoder.load(tmp_path / "m", pooling="cls")
    assert "pooling cls leaves out" in caplog.text
    assert not cls.pooling.learned
    want = Encoder.load(tiny_bert, max_length=64).encode_texts(TEXTS)
    assert torch.equal(cls.encode_texts(TEXTS), want)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sciembed_train"):
        Encoder(EncoderSettings(str(tmp_path / "m"), "mean", 64))
        assert "pooling mean leaves out" in caplog.text
        caplog.clear()
        Encoder.load(tmp_path / "m")
        assert caplog.text == ""
        assert torch.equal(Encoder.load(tiny_bert, pooling="mix").pooling.mix, torch.zeros(1, 3))
    assert "no weights of the pooling mix" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mix": [0.0, 1.0]}, "mixes 2 states, but its backbone has 3"),
        ({"mix": [0.0, 1.0, float("nan")]}, "`mix` is"),
        ({"mix": "0 1 2"}, "`mix` is"),
        ({"mix": None}, "`mix` is None"),
        ({"pooling": "cls"}, "`pooling` 'cls'"),
        ({"backbone": "../other"}, "leads out of the folder"),
        ({"backbone": "st/gone"}, "holds no config.json"),
    ],
)
def test_a_spoiled_record_of_a_mix_is_refused(tiny_bert, tmp_path, values, message):
    mixing(tiny_bert).save(tmp_path / "m")
    path = tmp_path / "m" / "sciembed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(UserError, match=message):
        Encoder.load(tmp_path / "m")


def test_half_of_a_folder_is_refused_with_the_place_of_the_whole(tiny_bert, tmp_path):
    mixing(tiny_bert).save(tmp_path / "m")
    (tmp_path / "m" / "hf").mkdir()
    for name in ("st", "hf"):
        with pytest.raises(UserError, match=f"m/{name}: is the part.*give the folder.*/m\\."):
            Encoder.load(tmp_path / "m" / name)


@pytest.mark.parametrize("mix_init", ["uniform", "linear"])
def test_a_mix_comes_back_from_a_checkpoint(tiny_roberta, mix_init):
    encoder = mixing(tiny_roberta, mix_init=mix_init)
    assert "mix" in encoder.state_dict()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    stored = io.BytesIO()
    torch.save({"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, stored)
    stored.seek(0)
    content = torch.load(stored, weights_only=True)
    before = torch.random.get_rng_state()
    again = encoder_from_checkpoint(content)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.pooling.mix, encoder.pooling.mix)
    assert again.settings == encoder.settings
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    # A checkpoint that was made without a mix holds no such setting.
    old = describe(Encoder(dataclasses.replace(settings_of(tiny_roberta), pooling="cls")))
    old["encoder"].pop("mix_init")
    assert EncoderSettings.from_dict(old["encoder"]).mix_init == "uniform"
    del content["state_dict"]["encoder.mix"]
    with pytest.raises(UserError, match="do not fit"):
        encoder_from_checkpoint(content)


def test_a_real_encoder_mixes_its_seven_states(minilm):
    texts = ["graphs of citations", "word " * 60 + "graphs", "a"]
    both = []
    for forward in ("unpadded", "padded"):
        encoder = Encoder(EncoderSettings(str(minilm), "mix", 256, forward=forward, dropout=0.0))
        with torch.no_grad():
            encoder.pooling.mix.copy_(torch.linspace(-1, 1, 7)[None])
        both.append(run(encoder, encoder.rows(texts)))
    assert_same(*both, 1e-5)
