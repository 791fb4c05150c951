"""The code file of an exported layer mix, against its formula."""

import pytest
import torch
from transformers import BertConfig

from sciembed_train.export.layer_mix import LayerMixConfig, LayerMixModel


@pytest.fixture
def model():
    backbone = BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    model = LayerMixModel(LayerMixConfig(backbone=backbone.to_dict())).eval()
    with torch.no_grad():
        model.mix.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
    return model


def test_states_are_the_mix_of_all_layers_and_the_first_is_the_vector(model):
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        output = model(input_ids=ids)
        states = model.backbone(input_ids=ids, output_hidden_states=True).hidden_states
    shares = [torch.tensor(w).exp() for w in (0.5, -1.0, 2.0)]
    expected = sum(s * layer for s, layer in zip(shares, states, strict=True)) / sum(shares)
    torch.testing.assert_close(output.last_hidden_state, expected)
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])
    assert output.hidden_states is None


def test_there_is_no_pooler_and_a_tuple_where_it_is_asked_for(model):
    assert model.backbone.pooler is None
    with torch.no_grad():
        found = model(input_ids=torch.tensor([[2, 3]]), return_dict=False)
    assert isinstance(found, tuple)
