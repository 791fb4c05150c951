"""ModernBERT's unpadded forward against transformers' padded one, the local window included."""

import dataclasses

import pytest
import torch
from torch import nn

from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.profiling.memory import footprint
from sciembed_train.encoder.unpadded import modernbert
from sciembed_train.encoder.unpadded.forward import why_not_unpadded
from sciembed_train.encoder.unpadded.modernbert import ModernBert
from sciembed_train.errors import UserError
from tests.helpers.tiny_models import write_tiny_modernbert
from tests.helpers.unpadded_rows import assert_same, ragged, run

# Some shorter than the window to one side, some longer than the whole of it; out of order, and
# several micro-batches at 300 tokens a micro-batch.
LENGTHS = [2, 150, 37, 37, 5, 3, 64, 150, 149, 9, 2]
LONG = [65, 66, 300, 64, 193, 129]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models by the tokens of their local attention, the last of their layers a local one."""

    def folder(tokens):
        place = tmp_path_factory.mktemp(f"window{tokens}")
        return write_tiny_modernbert(place, local_attention=tokens, num_hidden_layers=3)

    return {tokens: folder(tokens) for tokens in (8, 128)}


def settings_of(folder, **changes):
    values = {"pooling": "mean", "dropout": 0.0, "max_tokens_per_forward": 300}
    return EncoderSettings(str(folder), **{**values, **changes})


def both(folder, lengths, dtype=torch.float64, **changes):
    """What `run` gives unpadded and padded."""
    results = []
    for forward in ("unpadded", "padded"):
        encoder = Encoder(settings_of(folder, forward=forward, **changes)).to(dtype)
        assert encoder.unpadded == (forward == "unpadded")
        results.append(run(encoder, ragged(230, lengths)))
    return results


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
@pytest.mark.parametrize(("tokens", "lengths"), [(8, LENGTHS), (128, LONG)])
def test_unpadded_equals_padded_in_embeddings_and_every_gradient(
    folders, tokens, lengths, dtype, tolerance, pooling
):
    found = both(folders[tokens], lengths, getattr(torch, dtype), pooling=pooling)
    assert_same(*found, tolerance)
    # DDP waits for a gradient of each, and here no search for unused parameters is made.
    assert all(gradient is not None for gradient in found[0][1].values())


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ({"num_hidden_layers": 4}, 4),  # the last layer sees all of a text
        ({"norm_bias": True, "attention_bias": True, "mlp_bias": True}, 2),
        ({"global_attn_every_n_layers": 1}, 2),
        ({"hidden_activation": "silu", "local_rope_theta": 160000.0}, 2),
    ],
)
def test_other_shapes_of_the_family_are_equal_too(tmp_path, shape, count):
    found = both(write_tiny_modernbert(tmp_path, **shape), LENGTHS, pooling="cls")
    assert_same(*found, 1e-9)
    assert len({name.split(".")[2] for name in found[0][1] if ".layers." in name}) == count


def without_window(query, key, value, layout, heads, dropout, name, again, window):
    return attend(query, key, value, layout, heads, dropout, name, again)


def one_token_more(query, key, value, layout, heads, dropout, name, again, window):
    return attend(query, key, value, layout, heads, dropout, name, again, window and window + 1)


attend = modernbert.attend


@pytest.mark.parametrize("fault", [without_window, one_token_more])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("tokens", "lengths"), [(8, LENGTHS), (128, LONG)])
def test_a_forward_with_another_window_is_not_equal(
    folders, monkeypatch, tokens, lengths, pooling, fault
):
    monkeypatch.setattr(modernbert, "attend", fault)
    with pytest.raises(AssertionError):
        assert_same(*both(folders[tokens], lengths, torch.float32, pooling=pooling), 1e-5)


def test_a_forward_with_one_angle_for_all_layers_is_not_equal(folders, monkeypatch):
    own = ModernBert.shared

    def one(self, *given):
        angles = own(self, *given)
        return dict.fromkeys(angles, angles[None])

    monkeypatch.setattr(ModernBert, "shared", one)
    with pytest.raises(AssertionError):
        assert_same(*both(folders[8], LENGTHS, torch.float32), 1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", ["padded", "nested"])
def test_every_way_of_attention_gives_the_same(folders, name):
    encoders = [Encoder(settings_of(folders[8], attention=way)) for way in ("by_text", name)]
    assert_same(*(run(encoder.double(), ragged(230, LENGTHS)) for encoder in encoders), 1e-9)


def test_it_is_equal_to_a_plain_call_of_transformers_text_by_text(folders):
    from transformers import AutoModel

    rows = ragged(230, LENGTHS)
    plain = AutoModel.from_pretrained(folders[8]).double().eval()
    with torch.no_grad():
        states = [
            plain(input_ids=ids[None]).last_hidden_state[0]
            for ids in rows.ids.split(rows.lengths.tolist())
        ]
    want = {"cls": [s[0] for s in states], "mean": [s.mean(0) for s in states]}
    for pooling, vectors in want.items():
        encoder = Encoder(settings_of(folders[8], pooling=pooling)).double().eval()
        torch.testing.assert_close(encoder(rows), torch.stack(vectors), rtol=0, atol=1e-9)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_no_padding_token_reaches_a_linear_layer(folders, pooling):
    encoder, rows = Encoder(settings_of(folders[8], pooling=pooling)), ragged(230, LENGTHS)
    seen: dict[str, int] = {}

    def count(name):
        def hook(module, given, output):
            seen[name] = seen.get(name, 0) + given[0].shape[0]

        return hook

    for name, module in encoder.backbone.layers.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(count(name))
    encoder(rows)
    fewer = {"2.attn.Wo", "2.mlp.Wi", "2.mlp.Wo"} if pooling == "cls" else set()
    assert len(seen) == 3 * 4
    assert seen == {name: len(rows) if name in fewer else rows.tokens for name in seen}


def test_each_kind_of_dropout_alone_changes_the_result_and_none_in_evaluation(folders):
    rows = ragged(230, [40, 12, 12])
    exact = Encoder(settings_of(folders[8]))(rows)
    for kind in ("attention_dropout", "embedding_dropout", "mlp_dropout", "out_drop"):
        encoder = Encoder(settings_of(folders[8], dropout=0.4))
        for name, module in encoder.backbone.named_modules():
            if isinstance(module, nn.Dropout):
                own = {"drop": "mlp_dropout", "out_drop": "out_drop"}[name.rpartition(".")[2]]
                own = "embedding_dropout" if name.startswith("embeddings") else own
                module.p = 0.4 if own == kind else 0.0
        for layer in encoder.backbone.layers:
            layer.attn.attention_dropout = 0.4 if kind == "attention_dropout" else 0.0
        assert not torch.allclose(encoder(rows), exact), kind
        encoder.eval()
        torch.testing.assert_close(encoder(rows), exact)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_gradient(folders, dropout):
    settings = settings_of(folders[8], dropout=dropout)
    results = []
    for checkpointing in (False, True):
        encoder = Encoder(dataclasses.replace(settings, gradient_checkpointing=checkpointing))
        torch.manual_seed(5)
        results.append(run(encoder.double(), ragged(230, [30, 8])))
    assert_same(*results, 1e-12)


def test_bfloat16_autocast_stays_near_fp32(folders):
    encoder, rows = Encoder(settings_of(folders[8])), ragged(230, LENGTHS)
    exact, gradients = run(encoder, rows)
    gradients = {name: g.clone() for name, g in gradients.items() if g is not None}
    with torch.autocast("cpu", torch.bfloat16):
        near, found = run(encoder, rows)
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()
    for name, want in gradients.items():
        assert (found[name] - want).norm() < 0.05 * want.norm(), name


def test_the_window_is_read_of_the_layers(folders):
    backbone, family = Encoder(settings_of(folders[128])).backbone, ModernBert()
    assert [family.window(layer) for layer in family.layers(backbone)] == [None, 64, 64]
    assert family.head_width(backbone.layers[0]) == 16


def test_positions_that_depend_on_the_batch_run_padded(folders, monkeypatch):
    backbone = Encoder(settings_of(folders[8])).backbone
    rotary = getattr(backbone.layers[0].attn, "rotary_emb", None)
    if rotary is None:
        pytest.skip("transformers 4 has a module of positions in each layer")
    monkeypatch.setattr(rotary, "rope_type", "dynamic")
    assert why_not_unpadded(backbone) == (
        "its rotary positions (dynamic) depend on the longest text of a batch"
    )


def test_a_length_of_8192_is_512_unless_asked_for(folders):
    settings = EncoderSettings(str(folders[8]))
    assert settings.max_length == Encoder.load(folders[8]).settings.max_length == 512
    longer = Encoder(settings_of(folders[8], max_length=1000)).double().eval()
    padded = Encoder(settings_of(folders[8], max_length=1000, forward="padded")).double().eval()
    rows = ragged(230, [1000, 7])
    torch.testing.assert_close(longer(rows), padded(rows), rtol=0, atol=1e-9)
    with pytest.raises(UserError, match="has positions for 8192 tokens"):
        Encoder(settings_of(folders[8], max_length=8193))


def test_low_rank_updates_are_equal_too(folders):
    pytest.importorskip("peft")
    results = []
    for forward in ("unpadded", "padded"):
        settings = settings_of(folders[8], forward=forward, lora=LoraSettings(rank=2, dropout=0.0))
        encoder = Encoder(settings).double()
        draw = torch.Generator().manual_seed(1)
        trained = [p for p in encoder.parameters() if p.requires_grad]
        assert len(trained) == 2 * 3 * 4  # two matrices for each linear layer
        with torch.no_grad():
            for parameter in trained:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 4)
        results.append(run(encoder, ragged(230, LENGTHS)))
    assert_same(*results, 1e-9)


def test_a_training_pass_takes_more_memory_with_more_tokens(folders):
    found = footprint(Encoder(settings_of(folders[8])), 64)
    assert found.bytes(1000) > found.bytes(100) > 0
