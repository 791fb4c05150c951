"""Decoders' unpadded forward against transformers' padded one: order, windows, angles, heads."""

import dataclasses

import pytest
import torch
from torch import nn

from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.layers import layers_by_depth
from sciembed_train.encoder.profiling.memory import footprint
from sciembed_train.encoder.unpadded import decoder
from sciembed_train.encoder.unpadded.decoder import Decoder, Gemma
from sciembed_train.encoder.unpadded.forward import family_of, why_not_unpadded
from tests.helpers.exact_norms import exact_norms
from tests.helpers.tiny_models import DECODERS, write_tiny_decoder
from tests.helpers.unpadded_rows import assert_same, ragged, run

# Shorter than a window of 5, as long, longer than three of them; several micro-batches at 300
# tokens a micro-batch.
LENGTHS = [2, 90, 37, 37, 5, 3, 64, 90, 89, 9, 2, 6]
VOCABULARY = 200


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model of each type."""
    return {kind: write_tiny_decoder(tmp_path_factory.mktemp(kind), kind) for kind in DECODERS}


@pytest.fixture
def in_float64():
    with exact_norms():
        yield


def settings_of(folder, **changes):
    values = {"pooling": "last", "dropout": 0.0, "max_tokens_per_forward": 300}
    return EncoderSettings(str(folder), **{**values, **changes})


def both(folder, lengths, dtype=torch.float64, **changes):
    """What `run` gives unpadded and padded."""
    results = []
    for forward in ("unpadded", "padded"):
        encoder = Encoder(settings_of(folder, forward=forward, **changes)).to(dtype)
        assert encoder.unpadded == (forward == "unpadded")
        results.append(run(encoder, ragged(VOCABULARY, lengths)))
    return results


@pytest.mark.parametrize(
    ("kind", "pooling", "dtype", "tolerance"),
    [
        *((kind, "last", "float64", 1e-9) for kind in DECODERS),
        *((kind, "mean", "float64", 1e-9) for kind in ("qwen3", "gemma3_text")),
        *((kind, "last", "float32", 1e-5) for kind in ("qwen3", "gemma3_text")),
        *(
            pytest.param(kind, "mean", dtype, tolerance, marks=pytest.mark.slow)
            for kind in DECODERS
            for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-5))
        ),
    ],
)
def test_unpadded_equals_padded_in_embeddings_and_every_gradient(
    folders, kind, dtype, tolerance, pooling, request
):
    if dtype == "float64":
        request.getfixturevalue("in_float64")
    found = both(folders[kind], LENGTHS, getattr(torch, dtype), pooling=pooling)
    assert_same(*found, tolerance)
    # DDP waits for a gradient of each, and here no search for unused parameters is made.
    assert all(gradient is not None for gradient in found[0][1].values())


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (
            "qwen3",
            {
                **{"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
                **{"num_hidden_layers": 3, "attention_bias": True},
            },
        ),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
        ("mistral", {"sliding_window": None, "num_key_value_heads": 4}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("gemma3_text", {"layer_types": ["sliding_attention"] * 3}),
        ("gemma3_text", {"layer_types": ["full_attention"] * 3, "attention_bias": True}),
    ],
)
def test_other_shapes_of_the_families_are_equal_too(tmp_path, kind, shape, in_float64):
    folder = write_tiny_decoder(tmp_path, kind, **shape)
    assert_same(*both(folder, LENGTHS), 1e-9)


attend, turned, shared = decoder.attend, decoder._turned, Decoder.shared


def not_causal(*given):
    return attend(*given[:-1], False)


def without_window(*given):
    return attend(*given[:-2], None, True)


def one_token_more(*given):
    window = given[-2]
    return attend(*given[:-2], window and window + 1, True)


@pytest.mark.parametrize(
    ("kind", "fault", "pooling"),
    [
        ("qwen3", not_causal, "last"),
        ("qwen3", not_causal, "mean"),
        ("mistral", without_window, "last"),
        ("mistral", one_token_more, "mean"),
        ("gemma3_text", without_window, "last"),
        ("gemma3_text", one_token_more, "last"),
    ],
)
def test_a_forward_that_sees_other_tokens_is_not_equal(folders, monkeypatch, kind, fault, pooling):
    monkeypatch.setattr(decoder, "attend", fault)
    with pytest.raises(AssertionError):
        assert_same(*both(folders[kind], LENGTHS, torch.float32, pooling=pooling), 1e-5)


def test_a_forward_with_the_angles_swapped_is_not_equal(folders, monkeypatch):
    def swapped(self, *given):
        angles = shared(self, *given)
        return dict(zip(angles, reversed(angles.values()), strict=True))

    monkeypatch.setattr(Decoder, "shared", swapped)
    with pytest.raises(AssertionError):
        assert_same(*both(folders["gemma3_text"], LENGTHS, torch.float32), 1e-5)


def test_a_forward_without_positions_is_not_equal(folders, monkeypatch):
    monkeypatch.setattr(decoder, "_turned", lambda attention, states, cos, sin: states)
    with pytest.raises(AssertionError):
        assert_same(*both(folders["qwen3"], LENGTHS, torch.float32), 1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", ["padded", "nested"])
@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_every_way_of_attention_gives_the_same(folders, kind, name, in_float64):
    encoders = [Encoder(settings_of(folders[kind], attention=way)) for way in ("by_text", name)]
    rows = ragged(VOCABULARY, LENGTHS)
    assert_same(*(run(encoder.double(), rows) for encoder in encoders), 1e-9)


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_it_is_equal_to_a_plain_call_of_transformers_text_by_text(folders, kind):
    from transformers import AutoModel

    rows = ragged(VOCABULARY, LENGTHS)
    plain = AutoModel.from_pretrained(folders[kind]).double().eval()
    with torch.no_grad():
        states = [
            plain(input_ids=ids[None]).last_hidden_state[0]
            for ids in rows.ids.split(rows.lengths.tolist())
        ]
    want = {"last": [s[-1] for s in states], "mean": [s.mean(0) for s in states]}
    for pooling, vectors in want.items():
        encoder = Encoder(settings_of(folders[kind], pooling=pooling)).double().eval()
        torch.testing.assert_close(encoder(rows), torch.stack(vectors), rtol=0, atol=1e-9)


def test_a_vector_does_not_depend_on_what_follows_in_the_rows(folders):
    encoder = Encoder(settings_of(folders["qwen3"])).double().eval()
    rows = ragged(VOCABULARY, [7, 7, 4])
    alone = torch.cat([encoder(rows.select(torch.tensor([i]))) for i in range(3)])
    torch.testing.assert_close(encoder(rows), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_of_the_last_layer_only_last_tokens_are_computed(folders, pooling):
    encoder, rows = Encoder(settings_of(folders["qwen3"], pooling=pooling)), None
    rows = ragged(VOCABULARY, LENGTHS)
    seen: dict[str, int] = {}

    def count(name):
        def hook(module, given, output):
            seen[name] = seen.get(name, 0) + given[0].shape[0]

        return hook

    for name, module in encoder.backbone.layers.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(count(name))
    encoder(rows)
    ends = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    fewer = {f"1.{end}" for end in ends} if pooling == "last" else set()
    assert len(seen) == 2 * 7
    assert seen == {name: len(rows) if name in fewer else rows.tokens for name in seen}


@pytest.mark.parametrize(("kind", "dropout"), [("qwen3", 0.0), ("gemma3_text", 0.3)])
def test_gradient_checkpointing_changes_no_gradient(folders, kind, dropout):
    settings = settings_of(folders[kind], dropout=dropout)
    results = []
    for checkpointing in (False, True):
        encoder = Encoder(dataclasses.replace(settings, gradient_checkpointing=checkpointing))
        torch.manual_seed(5)
        results.append(run(encoder.double(), ragged(VOCABULARY, [30, 8])))
    assert_same(*results, 1e-12)


def test_gradient_checkpointing_of_the_padded_forward_changes_no_gradient(folders):
    settings, results = settings_of(folders["qwen3"], forward="padded"), []
    for checkpointing in (False, True):
        encoder = Encoder(dataclasses.replace(settings, gradient_checkpointing=checkpointing))
        results.append(run(encoder.double(), ragged(VOCABULARY, [30, 8])))
    assert_same(*results, 1e-12)


def test_dropout_is_of_attention_and_only_in_training(folders):
    rows = ragged(VOCABULARY, [40, 12, 12])
    exact = Encoder(settings_of(folders["qwen3"]))(rows)
    encoder = Encoder(settings_of(folders["qwen3"], dropout=0.4))
    assert not torch.allclose(encoder(rows), exact)
    encoder.eval()
    torch.testing.assert_close(encoder(rows), exact)


@pytest.mark.parametrize("kind", ["qwen3", pytest.param("gemma3_text", marks=pytest.mark.slow)])
def test_bfloat16_autocast_stays_near_fp32(folders, kind):
    encoder, rows = Encoder(settings_of(folders[kind], pooling="mean")), ragged(VOCABULARY, LENGTHS)
    exact, gradients = run(encoder, rows)
    gradients = {name: g.clone() for name, g in gradients.items() if g is not None}
    with torch.autocast("cpu", torch.bfloat16):
        near, found = run(encoder, rows)
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()
    for name, want in gradients.items():
        assert (found[name] - want).norm() < 0.1 * want.norm(), name


def test_windows_and_widths_are_read_of_the_layers(folders):
    windows = {"llama": [None] * 2, "mistral": [4] * 2, "gemma3_text": [4, None, 4]}
    for kind, want in windows.items():
        backbone: nn.Module = Encoder(settings_of(folders[kind])).backbone
        family = family_of(backbone)
        assert family is not None
        assert [family.window(layer) for layer in family.layers(backbone)] == want
    layer = Encoder(settings_of(folders["qwen3"])).backbone.layers[0]
    assert Decoder().head_width(layer) == 16
    assert Decoder().heads_widths(layer, 32) == (64, 32)


def test_what_cannot_run_unpadded_runs_padded(tmp_path, folders, monkeypatch):
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    folder = write_tiny_decoder(tmp_path, "qwen3", rope_scaling=scaling)
    encoder = Encoder(settings_of(folder))
    assert not encoder.unpadded
    assert why_not_unpadded(encoder.backbone) == (
        "its rotary positions (dynamic) depend on the longest text of a batch"
    )
    gemma = Encoder(settings_of(folders["gemma3_text"])).backbone
    assert Gemma().why_not(gemma) is None
    monkeypatch.setattr(gemma.config, "attn_logit_softcapping", 30.0)
    assert "caps the scores" in str(Gemma().why_not(gemma))


def test_layers_are_told_apart_for_learning_rates(folders):
    backbone = Encoder(settings_of(folders["qwen3"])).backbone
    layers = layers_by_depth(backbone)
    assert [(layer.name, layer.depth) for layer in layers] == [
        *(("embeddings", 3), ("layer 0", 2), ("layer 1", 1), ("top", 0))
    ]
    assert [p.shape for p in layers[0].parameters] == [backbone.embed_tokens.weight.shape]


def test_low_rank_updates_are_equal_too_and_of_every_matrix(folders):
    peft = pytest.importorskip("peft")
    results = []
    for forward in ("unpadded", "padded"):
        settings = settings_of(folders["qwen3"], forward=forward, lora=LoraSettings(rank=2))
        encoder = Encoder(settings).double()
        draw = torch.Generator().manual_seed(1)
        wrapped = {
            name.rpartition(".")[2]
            for name, module in encoder.named_modules()
            if isinstance(module, peft.tuners.lora.LoraLayer)
        }
        assert wrapped == {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")}
        with torch.no_grad():
            for parameter in (p for p in encoder.parameters() if p.requires_grad):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 4)
        results.append(run(encoder, ragged(VOCABULARY, LENGTHS)))
    assert_same(*results, 1e-9)
    merged = encoder.eval().merged()
    rows = ragged(VOCABULARY, LENGTHS)
    assert (merged(rows) - encoder(rows)).abs().max() < 1e-5


def test_a_training_pass_takes_more_memory_with_more_tokens(folders):
    found = footprint(Encoder(settings_of(folders["qwen3"])), 64)
    assert found.bytes(1000) > found.bytes(100) > 0
