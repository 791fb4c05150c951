import pytest
from transformers import AutoConfig, AutoModel

from sciembed_train.encoder.layers import layers_by_depth

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
}
DISTILBERT = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 16, "vocab_size": 20}
MODERNBERT = {**SMALL, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
NAMES = ["embeddings", "layer 0", "layer 1", "layer 2", "top"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "values", "top"),
    [
        ("bert", SMALL, {"pooler.dense.weight", "pooler.dense.bias"}),
        ("roberta", SMALL, {"pooler.dense.weight", "pooler.dense.bias"}),
        ("distilbert", DISTILBERT, set()),
        ("modernbert", MODERNBERT, {"final_norm.weight"}),
        ("mpnet", SMALL, None),
    ],
)
def test_every_parameter_is_of_the_embeddings_a_layer_or_the_top(kind, values, top):
    backbone = AutoModel.from_config(AutoConfig.for_model(kind, **values))
    layers = layers_by_depth(backbone)
    assert [layer.name for layer in layers] == (NAMES[:-1] if top == set() else NAMES)
    assert [layer.depth for layer in layers] == [4, 3, 2, 1, 0][: len(layers)]
    members = [id(p) for layer in layers for p in layer.parameters]
    assert sorted(members) == sorted(id(p) for p in backbone.parameters())
    assert len(set(members)) == len(members)
    place = {id(p): layer.name for layer in layers for p in layer.parameters}
    for name, parameter in backbone.named_parameters():
        part = next((f"layer {i}" for i in range(3) if f".{i}." in f".{name}"), None)
        if part is None:
            part = "embeddings" if "embeddings" in name else "top"
        assert place[id(parameter)] == part, name
    if top is not None:
        named = {id(p): name for name, p in backbone.named_parameters()}
        assert {named[i] for i, part in place.items() if part == "top"} == top
