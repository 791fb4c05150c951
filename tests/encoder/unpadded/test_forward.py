import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded.forward import (
    UNPADDED_FAMILIES,
    attention_on,
    backbone_layers,
    family_of,
    unpadded_layers,
    unpadded_states,
    why_not_unpadded,
)
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.safety.families import FAMILIES
from tests.helpers.unpadded_rows import ragged

CPU = torch.device("cpu")


@pytest.fixture(params=["tiny_bert", "tiny_roberta", "tiny_modernbert"])
def backbone(request):
    folder = request.getfixturevalue(request.param)
    return Encoder(EncoderSettings(str(folder), dropout=0.0)).backbone.double().eval()


@pytest.mark.parametrize("cls_only", [False, True])
def test_the_states_are_the_embeddings_each_layers_and_last_the_last_ones(backbone, cls_only):
    rows = ragged(230, [30, 7])
    layout, _ = Layout.of(rows.lengths.tolist(), CPU)
    with torch.no_grad():
        found = list(unpadded_layers(backbone, rows.ids, layout, cls_only))
        last = unpadded_states(backbone, rows.ids, layout, cls_only)
        whole = [
            backbone(input_ids=ids[None], output_hidden_states=True)
            for ids in rows.ids.split(rows.lengths.tolist())
        ]
    assert len(found) == len(backbone_layers(backbone)) + 1 == 3
    assert torch.equal(found[-1], last)
    for number, states in enumerate(found[:-1]):
        want = torch.cat([output.hidden_states[number][0] for output in whole])
        torch.testing.assert_close(states, want, rtol=0, atol=1e-9)
    want = torch.cat([o.last_hidden_state[0][: 1 if cls_only else None] for o in whole])
    torch.testing.assert_close(last, want, rtol=0, atol=1e-9)


def test_every_family_is_one_whose_models_are_read():
    assert set(UNPADDED_FAMILIES) < set(FAMILIES)


def test_a_decoder_and_an_unlisted_type_run_padded(backbone, monkeypatch):
    assert why_not_unpadded(backbone) is None
    monkeypatch.setattr(backbone.config, "is_decoder", True, raising=False)
    assert why_not_unpadded(backbone) == "the configuration makes it a decoder"
    monkeypatch.delitem(UNPADDED_FAMILIES, backbone.config.model_type)
    assert family_of(backbone) is None
    assert f"model type '{backbone.config.model_type}' is not one of" in str(
        why_not_unpadded(backbone)
    )


def test_auto_is_what_suits_the_dropout_and_the_heads_of_the_backbone(backbone):
    settings = EncoderSettings("given")
    assert attention_on(settings, backbone, "cpu", torch.float32) == "by_text"
    assert attention_on(settings, backbone, "cuda", torch.float32) == "nested"
    checkpointed = EncoderSettings("given", gradient_checkpointing=True)
    assert attention_on(checkpointed, backbone, "cuda", torch.float32) == "padded"
