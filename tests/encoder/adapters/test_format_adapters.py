"""Adapters in a frozen backbone: mixed batches against the library's own, and what is trained."""

import dataclasses

import pytest
import torch

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.adapters.adapter_choice import Choice
from sciembed_train.encoder.adapters.adapter_settings import (
    AdapterSettings,
    configuration,
    one_forward,
)
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters, fingerprint
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded.family import Run
from sciembed_train.encoder.unpadded.forward import unpadded_states
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.errors import UserError
from tests.helpers.adapter_models import (
    CODES,
    WIDE,
    adapted,
    adapted_encoder,
    assert_close,
    gradients,
    library_padded,
    ragged,
    stir,
)
from tests.helpers.tiny_models import write_tiny_modernbert
from tests.helpers.unpadded_rows import ragged as random_rows


def unpadded(backbone, choice, rows, cls_only=False, checkpointing=False):
    run = Run(checkpointing=checkpointing, end=choice.unpadded)
    return unpadded_states(backbone, rows.ids, laid_out(rows), cls_only, run)


def laid_out(rows):
    return Layout.of(rows.lengths.tolist(), rows.ids.device)[0]


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


adapters_library = pytest.importorskip("adapters")


# Out of order in length and in format; several micro-batches at 60 tokens a micro-batch; a
# micro-batch without a format, and texts of equal length.
LENGTHS = [7, 30, 12, 3, 41, 12, 5, 30, 9, 22, 2, 17]


FORMATS = torch.tensor([3, 0, 2, 2, 1, 0, 2, 3, 0, 2, 1, 2])


def from_the_library(encoder: Encoder, rows: TokenRows, formats: torch.Tensor) -> torch.Tensor:
    """Each text through the library's own padded forward, all texts of a format in one."""
    vectors = [torch.empty(0)] * len(rows)
    for place in formats.unique().tolist():
        numbers = torch.nonzero(formats == place)[:, 0]
        setup = adapters_library.AdapterSetup(CODES[place])
        states = library_padded(encoder.backbone, rows.select(numbers), setup)
        for number, own in zip(numbers.tolist(), states, strict=True):
            vectors[number] = own[0] if encoder.settings.pooling == "cls" else own.mean(0)
    return torch.stack(vectors)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("dtype", "part"), [("float64", 1e-12), ("float32", 1e-6)])
def test_a_mixed_batch_equals_one_forward_for_each_format(
    tiny_bert, dtype, part, pooling, forward, checkpointing
):
    given = {"pooling": pooling, "max_tokens_per_forward": 60, "forward": forward}
    encoder = adapted_encoder(tiny_bert, dtype, gradient_checkpointing=checkpointing, **given)
    rows = ragged(LENGTHS)
    plain = adapted_encoder(tiny_bert, dtype, **given).eval()
    want = from_the_library(plain, rows, FORMATS)
    want_grads = gradients(plain.backbone, want)
    got = encoder(rows, FORMATS)
    assert (got - want).abs().max() <= part * want.abs().max()
    # Rounding of fp32 adds up over the texts in another order.
    assert_close(gradients(encoder.backbone, got), want_grads, 10 * part)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_several_forwards_and_one_backward_are_right_with_checkpointing(tiny_bert, forward):
    """What is silently wrong where the adapters in use are a state of the model."""
    found = []
    for checkpointing in (False, True):
        encoder = adapted_encoder(tiny_bert, forward=forward, gradient_checkpointing=checkpointing)
        parts = [
            encoder(ragged([6, 11, 4], seed), torch.full((3,), place))
            for seed, place in enumerate([2, 0, 3, 1])
        ]
        found.append(gradients(encoder.backbone, torch.cat(parts)))
    assert sum(g is not None for g in found[0].values()) == 4 * 2 * 4
    assert_close(found[1], found[0], 1e-12)


def test_a_mixed_batch_equals_the_library_on_a_real_pretrained_encoder(minilm):
    encoder = adapted_encoder(minilm, "float32", max_length=128).eval()
    stir(encoder.backbone, encoder.format_reader, size=0.1)
    texts = ["word " * n + "graphs of citations" for n in (1, 60, 5, 100, 30)]
    rows, formats = encoder.rows(texts), torch.tensor([2, 0, 3, 2, 1])
    with torch.no_grad():
        want = from_the_library(encoder, rows, formats)
        got = encoder(rows, formats)
        assert (encoder(rows, torch.zeros(5, dtype=torch.int64)) - want).abs().max() > 0.05
    assert (got - want).abs().max() <= 1e-6 * want.abs().max()


@pytest.mark.parametrize(
    "config", ["lora", "compacter[reduction_factor=4]", "seq_bn_inv", "prefix_tuning", "mam"]
)
def test_other_configurations_of_the_library_run_padded_and_format_by_format(tiny_bert, config):
    encoder = adapted_encoder(
        tiny_bert, adapters=AdapterSettings(config=config), max_tokens_per_forward=60
    )
    assert not encoder.unpadded
    rows = ragged(LENGTHS)
    want = from_the_library(encoder.eval(), rows, FORMATS)
    got = encoder(rows, FORMATS)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    grads = gradients(encoder.backbone, got)
    trained = [n for n, p in encoder.backbone.named_parameters() if p.requires_grad]
    assert trained
    assert {n for n, g in grads.items() if g is not None} == set(trained)
    with pytest.raises(UserError, match="do not work on each token by itself"):
        adapted_encoder(tiny_bert, adapters=AdapterSettings(config=config), forward="unpadded")


def test_every_adapter_has_a_gradient_whatever_formats_a_batch_has(tiny_bert):
    """So no rank needs to look for parameters that went unused."""
    encoder = adapted_encoder(tiny_bert)
    vectors = encoder(ragged([5, 9]), torch.tensor([1, 1]))
    grads = gradients(encoder.backbone, vectors)
    for name, parameter in encoder.backbone.named_parameters():
        grad = grads[name]
        assert (grad is None) == (not parameter.requires_grad), name
        if grad is not None:
            assert bool(grad.abs().sum() > 0) == ("[RGN]" in name), name


def test_the_frozen_backbone_drops_as_published_and_as_the_settings_say(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), adapters=AdapterSettings()))
    rows, formats = ragged([9]), torch.tensor([2])
    with torch.no_grad():
        assert (encoder(rows, formats) - encoder(rows, formats)).abs().max() > 0.01
        still = adapted_encoder(tiny_bert, "float32")
        assert still.training
        assert torch.equal(still(rows, formats), still(rows, formats))


def test_a_text_without_a_format_is_refused_unless_there_is_one_adapter(tiny_bert):
    rows = ragged([5, 9])
    encoder = adapted_encoder(tiny_bert)
    with pytest.raises(ValueError, match="name the format of each text"):
        encoder(rows)
    with pytest.raises(ValueError, match=r"1 given"):
        encoder(rows, torch.tensor([1]))
    single = adapted_encoder(
        tiny_bert, adapters=AdapterSettings(formats=("proximity",), config=WIDE)
    )
    assert torch.equal(single(rows), single(rows, torch.tensor([2, 2])))
    with pytest.raises(ValueError, match=r"read by formats \[0, 2\]"):
        single(rows, torch.tensor([0, 2]))


def test_texts_are_embedded_by_the_adapter_of_a_named_format(tiny_bert):
    encoder = adapted_encoder(tiny_bert, "float32").eval()
    texts = ["word1 word2", "word3", "word4 word5 word6"]
    rows = encoder.rows(texts)
    with torch.no_grad():
        want = encoder(rows, torch.full((3,), 1))
    assert torch.equal(encoder.encode_texts(texts, format="regression"), want)
    with pytest.raises(ValueError, match="name the format"):
        encoder.encode_texts(texts)
    with pytest.raises(UserError, match="reads every text in the same way, so it takes no format"):
        Encoder(EncoderSettings(str(tiny_bert))).encode_texts(texts, format="regression")


def test_a_state_of_another_base_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    state = adapted_encoder(tiny_bert, "float32").state_dict()
    other = adapted_encoder(write_tiny_bert(tmp_path / "other", seed=1), "float32")
    with pytest.raises(UserError, match=r"other ones than those of .*other"):
        other.load_state_dict(state)


def test_training_changes_the_adapters_and_not_the_base(tiny_bert):
    encoder = adapted_encoder(tiny_bert, "float32")
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    encoder(ragged(LENGTHS), FORMATS).sum().backward()
    optimizer.step()
    for name, parameter in encoder.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == (".adapters." in name), name


def test_settings_come_back_from_plain_values(tiny_bert):
    settings = adapted_encoder(tiny_bert, "float32").settings
    assert EncoderSettings.from_dict(settings.as_dict()) == settings


def test_adapters_refuse_what_they_cannot_go_with(tiny_bert):
    with pytest.raises(UserError, match="cls or mean, since it has adapters"):
        adapted_encoder(tiny_bert, pooling="mix")
    with pytest.raises(UserError, match="freezes their vectors"):
        adapted_encoder(tiny_bert, control_codes=True)
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings())
    with pytest.raises(UserError, match="masked language modelling trains"):
        Encoder(settings, masked_lm=True)


def test_a_model_that_the_library_changes_is_refused(tiny_modernbert):
    pytest.importorskip("adapters")
    settings = EncoderSettings(str(tiny_modernbert), adapters=AdapterSettings())
    with pytest.raises(UserError, match=r"adds layers\.0\.attn\.Wqkv\.bias.*encoder\.lora"):
        Encoder(settings)


def test_a_model_that_the_library_reaches_into_runs_padded(tmp_path):
    pytest.importorskip("adapters")
    folder = write_tiny_modernbert(tmp_path, attention_bias=True)
    settings = EncoderSettings(str(folder), adapters=AdapterSettings(("proximity", "regression")))
    encoder = Encoder(settings).double().eval()
    assert not encoder.unpadded
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    rows = random_rows(230, [7, 30, 12])
    formats = torch.tensor([encoder.format_reader.index_of(n) for n in settings.adapters.formats])
    vectors = encoder(rows, formats[[0, 1, 0]])
    for i, kind in enumerate(formats[[0, 1, 0]]):
        alone = encoder(rows.select(torch.tensor([i])), kind[None])
        torch.testing.assert_close(vectors[i : i + 1], alone, rtol=0, atol=1e-12)
    plain = Encoder(EncoderSettings(str(folder), forward="padded")).double().eval()
    assert not torch.allclose(vectors, plain(rows))
    with pytest.raises(UserError, match="cannot run so: the library adapters reaches into"):
        Encoder(dataclasses.replace(settings, forward="unpadded"))
