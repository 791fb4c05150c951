"""A family of backbones that is defined outside of the package."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded.attention import attend
from sciembed_train.encoder.unpadded.family import Run, UnpaddedFamily
from sciembed_train.encoder.unpadded.forward import UNPADDED_FAMILIES
from sciembed_train.encoder.unpadded.layout import Layout
from tests.helpers.unpadded_rows import LENGTHS, assert_same, ragged, run


class DistilBert(UnpaddedFamily):
    """Six methods, and all else as it is."""

    def why_not(self, backbone):
        return "sinusoidal positions" if backbone.config.sinusoidal_pos_embds else None

    def layers(self, backbone):
        return list(backbone.transformer.layer)

    def attention_dropout(self, layer):
        return layer.attention.dropout.p

    def head_width(self, layer):
        return layer.attention.dim // layer.attention.n_heads

    def embed(self, backbone, ids, layout):
        own = backbone.embeddings
        states = own.word_embeddings(ids) + own.position_embeddings(layout.positions)
        return own.dropout(own.LayerNorm(states))

    def attention(self, layer, hidden, layout, alone, run, shared):
        own = layer.attention
        queries = hidden.index_select(0, layout.starts) if alone else hidden
        products = own.q_lin(queries), own.k_lin(hidden), own.v_lin(hidden)
        return attend(*products, layout, own.n_heads, 0.0, run.attention, run.checkpointing)

    @staticmethod
    def after_attention(layer, context, residual):
        states = layer.sa_layer_norm(layer.attention.out_lin(context) + residual)
        return layer.output_layer_norm(layer.ffn(states) + states)


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
def test_a_family_of_ones_own_runs_unpadded_once_it_is_listed(
    tiny_bert, tmp_path, monkeypatch, pooling
):
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    torch.manual_seed(0)
    sizes = {"vocab_size": 280, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    DistilBertModel(DistilBertConfig(**sizes)).save_pretrained(tmp_path)
    DistilBertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    settings = EncoderSettings(str(tmp_path), pooling, dropout=0.0, max_tokens_per_forward=700)
    padded = Encoder(settings)
    assert not padded.unpadded
    monkeypatch.setitem(UNPADDED_FAMILIES, "distilbert", DistilBert())
    unpadded = Encoder(settings)
    assert unpadded.unpadded
    unpadded.load_state_dict(padded.state_dict())
    rows = ragged(250, LENGTHS)
    results = []
    for encoder in (unpadded, padded):
        vectors, gradients = run(encoder.double(), rows)
        # Rounding about 0, as of every key's bias (`assert_same`).
        results.append((vectors, {n: g for n, g in gradients.items() if "k_lin.bias" not in n}))
    assert_same(*results, 1e-9)


def test_a_family_that_says_nothing_else_sees_all_of_a_text_and_has_no_norm_above():
    family, states = DistilBert(), torch.ones(2, 3)
    layout, _ = Layout.of([2], torch.device("cpu"))
    assert family.window(None) is None
    assert family.shared(None, states, layout) is None
    assert family.finish(None, states) is states
    assert family.feed_forward_products == 2


def test_a_run_is_plain_unless_it_says_otherwise():
    plain = Run()
    assert (plain.attention, plain.checkpointing, plain.compiled) == ("auto", False, False)
    assert plain.end(torch.add, torch.ones(1), torch.ones(1), False).item() == 2
