"""The code file of exported adapters, against the formulas of its page."""

import pytest
import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertOutput

from sciembed_train.export.adapted_model import (
    AdaptedConfig,
    AdaptedModel,
    AdaptedOutput,
    FusedConfig,
    FusedModel,
    FusedOutput,
)

BACKBONE = BertConfig(
    vocab_size=50,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
)


def parts():
    """The end of a layer, its inner states and the attention's, and ``h``."""
    torch.manual_seed(0)
    output = BertOutput(BACKBONE).eval()
    inner, x = torch.randn(2, 3, 16), torch.randn(2, 3, 8)
    return output, inner, x, output.dense(inner)


def test_an_adapter_is_the_equation():
    output, inner, x, h = parts()
    adapted = AdaptedOutput(output, bottleneck=4).eval()
    down, up, norm = adapted.adapter_down[0], adapted.adapter_up, output.LayerNorm
    z = norm(h + x)
    a = torch.relu(z @ down.weight.T + down.bias) @ up.weight.T + up.bias + h
    torch.testing.assert_close(adapted(inner, x), norm(a + x))


@pytest.mark.parametrize("values", [True, False])
def test_a_fusion_is_the_equation(values):
    output, inner, x, h = parts()
    fused = FusedOutput(output, FusedConfig(adapters=3, values=values, bottleneck=4)).eval()
    norm, fusion = output.LayerNorm, fused.fusion
    z = norm(h + x)
    outputs = [adapter(z) for adapter in fused.adapters]
    scores = torch.stack([(fusion.query(z) * fusion.key(u)).sum(-1) for u in outputs], -1)
    shares = scores.softmax(-1)
    value = fusion.value if values else nn.Identity()
    mixed = sum(shares[..., n, None] * value(u) for n, u in enumerate(outputs))
    torch.testing.assert_close(fused(inner, x), norm(mixed + h + x))


@pytest.mark.parametrize(
    ("kind", "config"), [(AdaptedModel, AdaptedConfig), (FusedModel, FusedConfig)]
)
def test_the_first_state_is_the_vector_and_every_layer_has_an_adapter(kind, config):
    model = kind(config(backbone=BACKBONE.to_dict(), bottleneck=4)).eval()
    assert model.backbone.pooler is None
    ends = [layer.output for layer in model.backbone.encoder.layer]
    assert {type(end) for end in ends} == {FusedOutput if kind is FusedModel else AdaptedOutput}
    with torch.no_grad():
        output = model(input_ids=torch.tensor([[2, 7, 3]]))
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])
