"""The unpadded forward against the padded forward of transformers, and what it multiplies."""

import dataclasses

import pytest
import torch
from torch import nn

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded.bert import unpadded_positions
from sciembed_train.encoder.unpadded.forward import why_not_unpadded
from sciembed_train.encoder.unpadded.layout import Layout
from tests.helpers.unpadded_rows import LENGTHS, assert_same, multiplied, ragged, run


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_packed_equals_padded_in_embeddings_and_every_gradient(folder, pooling, dtype, tolerance):
    settings = EncoderSettings(
        str(folder), pooling=pooling, dropout=0.0, max_tokens_per_forward=700
    )
    both = []
    for forward in ("unpadded", "padded"):
        encoder = Encoder(dataclasses.replace(settings, forward=forward))
        assert encoder.unpadded == (forward == "unpadded")
        both.append(run(encoder.to(getattr(torch, dtype)), ragged(250, LENGTHS)))
    assert_same(*both, tolerance)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_equals_padded_on_a_real_pretrained_encoder(minilm, pooling):
    texts = ["word " * n + "graphs of citations" for n in (1, 5, 60, 250)]
    both = []
    for forward in ("unpadded", "padded"):
        settings = EncoderSettings(str(minilm), pooling, 256, forward=forward, dropout=0.0)
        encoder = Encoder(settings)
        both.append(run(encoder, encoder.rows(texts)))
    assert_same(*both, 1e-5)


def test_packed_equals_a_plain_padded_call_of_transformers(folder):
    from transformers import AutoModel

    rows = ragged(250, LENGTHS)
    plain = AutoModel.from_pretrained(folder).double().eval()
    pad = plain.config.pad_token_id
    ids = nn.utils.rnn.pad_sequence(
        list(rows.ids.split(rows.lengths.tolist())), batch_first=True, padding_value=pad
    )
    mask = (torch.arange(ids.shape[1]) < rows.lengths.unsqueeze(1)).long()
    with torch.no_grad():
        hidden = plain(input_ids=ids, attention_mask=mask).last_hidden_state
        want = {
            "cls": hidden[:, 0],
            "mean": (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True),
        }
        for pooling, vectors in want.items():
            encoder = Encoder(EncoderSettings(str(folder), pooling=pooling)).double().eval()
            torch.testing.assert_close(encoder(rows), vectors, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_every_trainable_parameter_gets_a_gradient(folder, pooling):
    # DDP waits for a gradient of each, and here no search for unused parameters is made.
    _, grads = run(Encoder(EncoderSettings(str(folder), pooling=pooling)), ragged(250, [5, 9]))
    assert [n for n, g in grads.items() if g is None] == [
        "backbone.pooler.dense.weight",
        "backbone.pooler.dense.bias",
    ]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_no_padding_token_reaches_a_linear_layer(folder, pooling):
    rows = ragged(250, LENGTHS)
    settings = EncoderSettings(str(folder), pooling=pooling, max_tokens_per_forward=700)
    seen = multiplied(Encoder(settings), rows)
    assert len(seen) == 2 * 6
    last = {
        "layer.1.attention.self.query",
        "layer.1.attention.output.dense",
        "layer.1.intermediate.dense",
        "layer.1.output.dense",
    }
    fewer = last if pooling == "cls" else set()
    assert seen == {name: len(rows) if name in fewer else rows.tokens for name in seen}
    # The padded path multiplies padding, and this count notices.
    padded = multiplied(Encoder(dataclasses.replace(settings, forward="padded")), rows)
    assert all(count > rows.tokens for count in padded.values())


def test_a_hook_on_a_submodule_changes_the_result(tiny_bert):
    # What adapters and LoRA rely on: the backbone's own modules are called.
    encoder = Encoder(EncoderSettings(str(tiny_bert), dropout=0.0))
    rows = ragged(250, [7, 30])
    before = encoder(rows)
    value = encoder.backbone.encoder.layer[0].attention.self.value
    value.register_forward_hook(lambda module, given, out: out * 2)
    assert not torch.allclose(encoder(rows), before)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_dropout_is_drawn_in_training_and_off_in_evaluation(folder, forward):
    encoder = Encoder(EncoderSettings(str(folder), forward=forward, dropout=0.4))
    rows = ragged(250, [40, 12, 12])
    torch.manual_seed(0)
    one, two = encoder(rows), encoder(rows)
    torch.manual_seed(0)
    again = encoder(rows)
    assert not torch.allclose(one, two)
    torch.testing.assert_close(one, again)
    encoder.eval()
    torch.testing.assert_close(encoder(rows), encoder(rows), rtol=0, atol=0)


@pytest.mark.parametrize("only", ["attention", "hidden"])
def test_each_kind_of_dropout_alone_changes_the_packed_result(folder, only):
    encoder = Encoder(EncoderSettings(str(folder), dropout=0.0))
    rows = ragged(250, [40, 12, 12])
    exact = encoder(rows)
    for name, module in encoder.backbone.named_modules():
        if isinstance(module, nn.Dropout) and ("attention.self" in name) == (only == "attention"):
            module.p = 0.4
    assert not torch.allclose(encoder(rows), exact)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_gradient_checkpointing_changes_no_gradient(tiny_bert, forward, dropout):
    settings = EncoderSettings(str(tiny_bert), forward=forward, dropout=dropout)
    results = []
    for checkpointing in (False, True):
        encoder = Encoder(dataclasses.replace(settings, gradient_checkpointing=checkpointing))
        torch.manual_seed(5)
        results.append(run(encoder.double(), ragged(250, [30, 8])))
    assert_same(*results, 1e-12)


def test_gradient_checkpointing_runs_layers_again_in_the_backward(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), gradient_checkpointing=True))
    calls = []
    layer = encoder.backbone.encoder.layer[0].intermediate
    layer.register_forward_hook(lambda *_: calls.append(1))
    run(encoder, ragged(250, [30]))
    assert len(calls) == 2


def test_bfloat16_autocast_stays_near_fp32(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), dropout=0.0))
    rows = ragged(250, LENGTHS)
    exact, exact_grads = run(encoder, rows)
    exact_grads = {n: g.clone() for n, g in exact_grads.items() if g is not None}
    with torch.autocast("cpu", torch.bfloat16):
        near, grads = run(encoder, rows)
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()
    assert (near - exact).abs().max() > 0
    for name, want in exact_grads.items():
        if not name.endswith("key.bias"):
            got = grads[name]
            assert got is not None
            assert got.dtype == torch.float32
            assert (got - want).norm() < 0.05 * want.norm(), name


def test_roberta_counts_positions_around_a_spelled_out_padding_token():
    from transformers.models.roberta import modeling_roberta

    rows = [[0, 9, 1, 8, 2], [0, 1, 2], [0, 2]]
    batch = TokenRows.from_lists(rows)
    theirs = getattr(
        modeling_roberta,
        "create_position_ids_from_input_ids",
        getattr(modeling_roberta.RobertaEmbeddings, "create_position_ids_from_input_ids", None),
    )
    want = [theirs(torch.tensor([row]), 1)[0] for row in rows]
    layout, _ = Layout.of(batch.lengths.tolist(), torch.device("cpu"))
    assert torch.equal(unpadded_positions(batch.ids, layout, 1), torch.cat(want))
    plain = unpadded_positions(batch.ids, layout, None)
    assert plain.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("kind", ["Electra", "XLMRoberta", "Camembert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_families_of_the_same_shape_run_packed(tiny_bert, tiny_roberta, kind, pooling):
    import transformers

    sizes = {
        "vocab_size": 280,
        "hidden_size": 32,
        "embedding_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 514,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    torch.manual_seed(0)
    backbone = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**sizes)
    )
    backbone = backbone.double()
    tokenizer = Encoder(EncoderSettings(str(tiny_roberta))).tokenizer
    both = [
        run(
            Encoder(EncoderSettings("given", pooling, forward=forward), backbone, tokenizer),
            ragged(250, [2, 80, 33]),
        )
        for forward in ("unpadded", "padded")
    ]
    assert_same(*both, 1e-9)


def test_an_unlike_backbone_falls_back_to_padded_pieces(tiny_bert, tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    from sciembed_train.errors import UserError

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=280, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64
    )
    tokenizer = Encoder(EncoderSettings(str(tiny_bert))).tokenizer
    DistilBertModel(config).save_pretrained(tmp_path)
    tokenizer.hf.save_pretrained(tmp_path)
    settings = EncoderSettings(
        str(tmp_path), max_length=64, dropout=0.0, max_tokens_per_forward=100
    )
    encoder = Encoder(settings).double().eval()
    assert not encoder.unpadded
    assert "distilbert" in (why_not_unpadded(encoder.backbone) or "")
    rows = ragged(250, [64, 2, 30, 64, 7])
    alone = [
        encoder.backbone(input_ids=t[None]).last_hidden_state[:, 0]
        for t in rows.ids.split(rows.lengths.tolist())
    ]
    torch.testing.assert_close(encoder(rows), torch.cat(alone), rtol=0, atol=1e-9)
    assert encoder.dim == 32
    with pytest.raises(UserError, match="cannot run so"):
        Encoder(dataclasses.replace(settings, forward="unpadded"))
