"""Adapters in a backbone: one mixed forward against the library's own, and what is trained."""

import sys

import pytest
import torch

from sciembed_train.encoder.adapters.adapter_choice import Choice, checkpoint_layers
from sciembed_train.encoder.adapters.adapter_settings import (
    AdapterSettings,
    configuration,
    one_forward,
)
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters, fingerprint
from sciembed_train.encoder.unpadded.bert import Run, unpadded_states
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.errors import UserError
from tests.helpers.adapter_models import (
    CODES,
    FORMATS,
    LENGTHS,
    WIDE,
    adapted,
    assert_close,
    gradients,
    library_padded,
    ragged,
)

adapters_library = pytest.importorskip("adapters")


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def folder(request):
    return request.getfixturevalue(request.param)


def unpadded(backbone, choice, rows, cls_only=False, checkpointing=False):
    run = Run(checkpointing=checkpointing, end=choice.unpadded)
    return unpadded_states(backbone, rows.ids, laid_out(rows), cls_only, run)


def laid_out(rows):
    return Layout.of(rows.lengths.tolist(), rows.ids.device)[0]


def one_by_one(backbone, rows, formats):
    """Each text through the library's padded forward, in a forward of its own."""
    states = []
    for number, place in enumerate(formats):
        setup = adapters_library.AdapterSetup(CODES[place])
        states += library_padded(backbone, rows.select(torch.tensor([number])), setup)
    return states


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("cls_only", [False, True])
@pytest.mark.parametrize(("dtype", "part"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("config", [WIDE, f"double_{WIDE}", "scaled_par_bn"])
def test_a_mixed_packed_forward_equals_the_library_text_by_text(
    tiny_bert, config, dtype, part, cls_only, checkpointing
):
    backbone, adapters = adapted(tiny_bert, dtype, config=config)
    rows = ragged(LENGTHS)
    states = one_by_one(backbone, rows, FORMATS)
    want = torch.stack([s[0] for s in states]) if cls_only else torch.cat(states)
    want_grads = gradients(backbone, want)

    choice = adapters.choose(FORMATS, LENGTHS)
    got = unpadded(backbone, choice, rows, cls_only, checkpointing)
    assert (got - want).abs().max() <= part * want.abs().max()
    # The library alone leaves an adapter that no text reads without a gradient.
    for name in adapters.tensor_names:
        if "[QRY]" in name:
            assert want_grads[name] is None
            want_grads[name] = torch.zeros_like(backbone.get_parameter(name))
    # Rounding of fp32 adds up over the texts in another order.
    assert_close(gradients(backbone, got), want_grads, 10 * part)


def test_a_mixed_packed_forward_equals_the_library_s_own_mixed_one(folder):
    backbone, adapters = adapted(folder)
    rows = ragged(LENGTHS)
    choice = adapters.choose(FORMATS, LENGTHS)
    want = torch.cat(library_padded(backbone, rows, choice.padded()))
    got = unpadded(backbone, choice, rows)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert_close(gradients(backbone, got), gradients(backbone, want), 1e-11)


def test_every_format_changes_the_vector_its_own_way(tiny_bert):
    backbone, adapters = adapted(tiny_bert)
    rows = ragged([9])
    vectors = [unpadded(backbone, adapters.choose([f], [9]), rows, True) for f in range(4)]
    vectors.append(unpadded_states(backbone, rows.ids, laid_out(rows), True))  # the base itself
    for number, first in enumerate(vectors):
        for second in vectors[:number]:
            assert (first - second).abs().max() > 0.1


def two_passes(backbone, adapters, choose, forward):
    """Two forwards of different adapters, one backward: gradients of the whole."""
    first, second = ragged([6, 11], seed=1), ragged([4, 8], seed=2)
    vectors = torch.cat(
        [
            forward(backbone, choose(adapters, 0), first),
            forward(backbone, choose(adapters, 2), second),
        ]
    )
    return gradients(backbone, vectors)


def explicit(adapters, place):
    return Choice((CODES[place],), (2,), (15,))


def keep_padded(backbone, choice, rows):
    return torch.cat(library_padded(backbone, rows, choice.padded()))


def keep_packed(checkpointing):
    return lambda backbone, choice, rows: unpadded(
        backbone, choice, rows, checkpointing=checkpointing
    )


def test_a_checkpointed_layer_is_computed_again_with_the_same_adapters(tiny_bert):
    backbone, adapters = adapted(tiny_bert)
    want = two_passes(backbone, adapters, explicit, keep_packed(False))
    assert want[next(n for n in adapters.tensor_names if "[CLF]" in n)] is not None
    got = two_passes(backbone, adapters, explicit, keep_packed(True))
    assert_close(got, want, 1e-12)


def checkpointed(folder):
    from transformers import AutoModel

    backbone = AutoModel.from_pretrained(str(folder), dtype=torch.float32)
    made = FormatAdapters(backbone, AdapterSettings(config=WIDE), str(folder))
    checkpoint_layers(backbone)
    return backbone.double().train(), made


def without_dropout(backbone):
    for module in backbone.modules():
        for name in ("p", "dropout_prob"):  # the second is the attention's own, in transformers 4
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return backbone


def test_the_library_s_padded_layer_is_computed_again_with_the_same_adapters(tiny_bert):
    plain, adapters = adapted(tiny_bert)
    want = two_passes(plain, adapters, explicit, keep_padded)
    again, made = checkpointed(tiny_bert)
    again.load_state_dict(plain.state_dict())
    got = two_passes(without_dropout(again), made, explicit, keep_padded)
    assert again.encoder.gradient_checkpointing
    assert_close(got, want, 1e-12)


def test_these_tests_tell_a_choice_that_is_a_state_of_the_model(tiny_bert):
    """What the two tests above are for: so chosen, the gradients are silently wrong."""
    backbone, adapters = adapted(tiny_bert)
    want = two_passes(backbone, adapters, explicit, keep_packed(False))

    def stateful(adapters, place):
        backbone.set_active_adapters(CODES[place])

    def forward(backbone, _, rows):
        return unpadded_states(backbone, rows.ids, laid_out(rows), run=Run(checkpointing=True))

    got = two_passes(backbone, adapters, stateful, forward)
    with pytest.raises(AssertionError):
        assert_close(got, want, 0.1)


def test_only_the_adapters_are_trained_and_they_have_the_published_size():
    from transformers import BertConfig, BertModel

    # BERT base as far as adapters see it.
    backbone = BertModel(BertConfig(vocab_size=50, intermediate_size=8, max_position_embeddings=8))
    adapters = FormatAdapters(backbone, AdapterSettings(), "base")
    trained = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    assert set(trained) == set(adapters.tensor_names)
    for code in CODES:
        own = {n: p for n, p in trained.items() if f".{code}." in n}
        assert len(own) == 48
        assert sum(p.numel() for p in own.values()) == 894_528
    down = "encoder.layer.11.output.adapters.[PRX].adapter_down.0.weight"
    assert trained[down].shape == (48, 768)


def test_a_new_adapter_is_near_the_identity_and_alike_for_the_same_seed(tiny_bert):
    from transformers import AutoModel

    rows = ragged([9])
    plain = AutoModel.from_pretrained(str(tiny_bert)).eval()
    base = unpadded_states(plain, rows.ids, laid_out(rows))
    states = []
    for _ in range(2):
        backbone = AutoModel.from_pretrained(str(tiny_bert)).eval()
        torch.manual_seed(5)
        adapters = FormatAdapters(backbone, AdapterSettings(formats=("proximity",)), "base")
        states.append(unpadded(backbone, adapters.choose([2], [9]), rows))
    assert torch.equal(states[0], states[1])
    assert 0 < (states[0] - base).abs().max() < 0.1


def test_a_piece_out_of_order_or_of_an_unknown_format_is_refused(tiny_bert):
    _, adapters = adapted(tiny_bert, formats=("classification", "proximity"))
    with pytest.raises(ValueError, match="rising"):
        adapters.choose([2, 0], [3, 3])
    with pytest.raises(ValueError, match="rising"):
        adapters.choose([0, 1], [3, 3])
    assert adapters.choose([0, 0, 2], [3, 4, 5]) == Choice(("[CLF]", "[PRX]"), (2, 1), (7, 5))
    assert adapters.index_of("proximity") == 2
    with pytest.raises(UserError, match="no adapter for 'regression'"):
        adapters.index_of("regression")


def test_adapters_that_see_a_whole_text_read_one_format_in_a_forward(tiny_bert):
    mixing = {"seq_bn": True, "par_bn": True, "compacter": False, "lora": False, "mam": False}
    mixing |= {"seq_bn[use_gating=True]": False, "seq_bn_inv": False, "prefix_tuning": False}
    for config, yes in mixing.items():
        assert one_forward(configuration(AdapterSettings(config=config))) == yes, config
    _, adapters = adapted(tiny_bert, config="lora")
    assert adapters.choose([1, 1], [4, 5]) == Choice(("[RGN]",), (2,), (9,))
    with pytest.raises(ValueError, match="one format"):
        adapters.choose([0, 1], [4, 5])


def test_the_fingerprint_is_that_of_the_frozen_weights_alone(tiny_bert, tiny_roberta):
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(str(tiny_bert))
    _, adapters = adapted(tiny_bert)
    assert adapters.fingerprint == fingerprint(plain.state_dict())
    plain.pooler.dense.weight.data += 1
    assert adapters.fingerprint == fingerprint(plain.state_dict())
    with torch.no_grad():
        plain.encoder.layer[1].output.dense.bias[3] += 1e-4
    assert adapters.fingerprint != fingerprint(plain.state_dict())


def test_a_state_of_adapters_to_another_base_is_refused(tiny_bert, tiny_roberta):
    _, adapters = adapted(tiny_bert)
    _, others = adapted(tiny_roberta)
    adapters.set_extra_state(adapters.get_extra_state())
    with pytest.raises(UserError, match=r"other ones than those of .*tiny_roberta"):
        others.set_extra_state(adapters.get_extra_state())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"formats": ()}, "expected some of classification, regression"),
        ({"formats": ("proximity", "proximity")}, "each once"),
        ({"formats": ("search",)}, "has 'search'; expected some of classification"),
        ({"formats": ("proximity",), "start": {"regression": "x"}}, "start names 'regression'"),
        ({"reduction": 0}, "reduction is 0"),
    ],
)
def test_settings_out_of_range_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        AdapterSettings(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"config": "no_such"}, "cannot make .* it has compacter, "),
        ({"config": "seq_bn[reduction"}, "cannot make"),
        ({"config": "lora", "reduction": 8}, "has no reduction"),
        ({"config": "prompt_tuning"}, "its own vectors before the text"),
        ({"config": "mtl_lora"}, "a task's number"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        configuration(AdapterSettings(**given))


def test_the_reduction_is_the_settings_own():
    assert configuration(AdapterSettings())["reduction_factor"] == 16
    assert configuration(AdapterSettings(reduction=4))["reduction_factor"] == 4
    named = configuration(AdapterSettings(config="seq_bn[reduction_factor=32]"))
    assert named["reduction_factor"] == 32


def test_settings_come_back_from_plain_values():
    import json
    from dataclasses import asdict

    settings = AdapterSettings(formats=("proximity",), start={"proximity": "here"}, reduction=8)
    assert AdapterSettings.from_dict(json.loads(json.dumps(asdict(settings)))) == settings


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "adapters", None)
    with pytest.raises(UserError, match=r"adapters 1\.3.*needs transformers 4\.57\.6.*hf/"):
        configuration(AdapterSettings())
