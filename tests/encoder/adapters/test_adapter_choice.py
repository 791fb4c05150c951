"""One forward of several adapters against the library's own, and layers computed again."""

import pytest
import torch

from sciembed_train.encoder.adapters.adapter_choice import Choice, checkpoint_layers
from sciembed_train.encoder.adapters.adapter_settings import (
    AdapterSettings,
)
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters
from sciembed_train.encoder.unpadded.family import Run
from sciembed_train.encoder.unpadded.forward import unpadded_states
from sciembed_train.encoder.unpadded.layout import Layout
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
