"""An encoder with adapters: batches of several formats, its state, and what it belongs to."""

import copy
import dataclasses
import shutil

import pytest
import torch

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError
from tests.helpers.adapter_models import (
    CODES,
    WIDE,
    assert_close,
    gradients,
    library_padded,
    ragged,
    stir,
)

adapters_library = pytest.importorskip("adapters")

# Out of order in length and in format; several micro-batches at 60 tokens a micro-batch; a
# micro-batch without a format, and texts of equal length.
LENGTHS = [7, 30, 12, 3, 41, 12, 5, 30, 9, 22, 2, 17]
FORMATS = torch.tensor([3, 0, 2, 2, 1, 0, 2, 3, 0, 2, 1, 2])


def encoder_of(folder, dtype="float64", adapters=None, **given) -> Encoder:
    wanted = AdapterSettings(config=WIDE) if adapters is None else adapters
    settings = EncoderSettings(str(folder), dropout=0.0, adapters=wanted, **given)
    encoder = Encoder(settings)
    stir(encoder.backbone, encoder.format_reader)
    return encoder.to(getattr(torch, dtype))


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
    encoder = encoder_of(tiny_bert, dtype, gradient_checkpointing=checkpointing, **given)
    rows = ragged(LENGTHS)
    plain = encoder_of(tiny_bert, dtype, **given).eval()
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
        encoder = encoder_of(tiny_bert, forward=forward, gradient_checkpointing=checkpointing)
        parts = [
            encoder(ragged([6, 11, 4], seed), torch.full((3,), place))
            for seed, place in enumerate([2, 0, 3, 1])
        ]
        found.append(gradients(encoder.backbone, torch.cat(parts)))
    assert sum(g is not None for g in found[0].values()) == 4 * 2 * 4
    assert_close(found[1], found[0], 1e-12)


def test_a_mixed_batch_equals_the_library_on_a_real_pretrained_encoder(minilm):
    encoder = encoder_of(minilm, "float32", max_length=128).eval()
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
    encoder = encoder_of(
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
        encoder_of(tiny_bert, adapters=AdapterSettings(config=config), forward="unpadded")


def test_every_adapter_has_a_gradient_whatever_formats_a_batch_has(tiny_bert):
    """So no rank needs to look for parameters that went unused."""
    encoder = encoder_of(tiny_bert)
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
        still = encoder_of(tiny_bert, "float32")
        assert still.training
        assert torch.equal(still(rows, formats), still(rows, formats))


def test_a_text_without_a_format_is_refused_unless_there_is_one_adapter(tiny_bert):
    rows = ragged([5, 9])
    encoder = encoder_of(tiny_bert)
    with pytest.raises(ValueError, match="name the format of each text"):
        encoder(rows)
    with pytest.raises(ValueError, match=r"1 given"):
        encoder(rows, torch.tensor([1]))
    single = encoder_of(tiny_bert, adapters=AdapterSettings(formats=("proximity",), config=WIDE))
    assert torch.equal(single(rows), single(rows, torch.tensor([2, 2])))
    with pytest.raises(ValueError, match=r"read by formats \[0, 2\]"):
        single(rows, torch.tensor([0, 2]))


def test_texts_are_embedded_by_the_adapter_of_a_named_format(tiny_bert):
    encoder = encoder_of(tiny_bert, "float32").eval()
    texts = ["word1 word2", "word3", "word4 word5 word6"]
    rows = encoder.rows(texts)
    with torch.no_grad():
        want = encoder(rows, torch.full((3,), 1))
    assert torch.equal(encoder.encode_texts(texts, format="regression"), want)
    with pytest.raises(ValueError, match="name the format"):
        encoder.encode_texts(texts)
    with pytest.raises(UserError, match="reads every text in the same way, so it takes no format"):
        Encoder(EncoderSettings(str(tiny_bert))).encode_texts(texts, format="regression")


def test_formats_are_refused_by_an_encoder_that_reads_every_text_alike(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert))).eval()
    assert not encoder.format_reader.reads_formats
    assert encoder_of(tiny_bert).format_reader.reads_formats
    with pytest.raises(ValueError, match="takes no formats"):
        encoder(ragged([5]), torch.tensor([3]))


def test_the_state_holds_the_adapters_alone_and_goes_into_the_same_base(tiny_bert):
    encoder = encoder_of(tiny_bert, "float32")
    state = encoder.state_dict()
    assert len(state) == 4 * 2 * 4 + 1
    assert all(".adapters.[" in k or k == "adapters._extra_state" for k in state)
    other = Encoder(encoder.settings).eval()
    rows = ragged(LENGTHS)
    assert not torch.equal(other(rows, FORMATS), encoder.eval()(rows, FORMATS))
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(rows, FORMATS), encoder(rows, FORMATS))
    del state[next(k for k in state if "[QRY]" in k)]
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(state, strict=True)


def test_a_copy_of_an_encoder_has_a_state_of_its_own(tiny_bert):
    encoder = encoder_of(tiny_bert, "float32")
    twin = copy.deepcopy(encoder)
    assert twin.state_dict().keys() == encoder.state_dict().keys()
    stir(twin.backbone, twin.format_reader, seed=8)
    key = "backbone.encoder.layer.0.output.adapters.[PRX].adapter_up.weight"
    assert not torch.equal(twin.state_dict()[key], encoder.state_dict()[key])
    rows = ragged(LENGTHS)
    assert not torch.equal(twin.eval()(rows, FORMATS), encoder.eval()(rows, FORMATS))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin(rows, FORMATS), encoder(rows, FORMATS))


def test_a_state_of_another_base_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    state = encoder_of(tiny_bert, "float32").state_dict()
    other = encoder_of(write_tiny_bert(tmp_path / "other", seed=1), "float32")
    with pytest.raises(UserError, match=r"other ones than those of .*other"):
        other.load_state_dict(state)


def test_training_changes_the_adapters_and_not_the_base(tiny_bert):
    encoder = encoder_of(tiny_bert, "float32")
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    encoder(ragged(LENGTHS), FORMATS).sum().backward()
    optimizer.step()
    for name, parameter in encoder.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == (".adapters." in name), name


def test_settings_come_back_from_plain_values(tiny_bert):
    settings = encoder_of(tiny_bert, "float32").settings
    assert EncoderSettings.from_dict(settings.as_dict()) == settings


def test_adapters_refuse_what_they_cannot_go_with(tiny_bert):
    with pytest.raises(UserError, match="cls or mean, since it has adapters"):
        encoder_of(tiny_bert, pooling="mix")
    with pytest.raises(UserError, match="freezes their vectors"):
        encoder_of(tiny_bert, control_codes=True)
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings())
    with pytest.raises(UserError, match="masked language modelling trains"):
        Encoder(settings, masked_lm=True)


def checkpoint_of(encoder, file):
    """What `train fit` keeps of an encoder, as it is read back."""
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, file)
    return torch.load(file, weights_only=True)


def test_a_checkpoint_holds_the_adapters_and_names_their_base(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, "float32").eval()
    content = checkpoint_of(encoder, tmp_path / "a.ckpt")
    assert content["sciembed"]["base"] == str(tiny_bert)
    assert len(content["sciembed"]["base_fingerprint"]) == 64
    adapters = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sum(v.numel() for v in content["state_dict"].values()) == adapters + 32
    again = encoder_from_checkpoint(content)
    rows = ragged(LENGTHS)
    assert torch.equal(again(rows, FORMATS), encoder(rows, FORMATS))


def test_a_checkpoint_without_its_base_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    base = shutil.copytree(tiny_bert, tmp_path / "base")
    encoder = encoder_of(base, "float32").eval()
    content = checkpoint_of(encoder, tmp_path / "a.ckpt")
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"it\.ckpt: holds adapters to the backbone .*base, which"):
        encoder_from_checkpoint(content, "it.ckpt")
    rows = ragged(LENGTHS)
    again = encoder_from_checkpoint(content, "it.ckpt", str(tmp_path / "moved"))
    assert torch.equal(again(rows, FORMATS), encoder(rows, FORMATS))
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"it\.ckpt.*weights are other ones"):
        encoder_from_checkpoint(content, "it.ckpt", str(other))
    whole = checkpoint_of(Encoder(EncoderSettings(str(other))), tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="no base goes with it"):
        encoder_from_checkpoint(whole, "it.ckpt", str(other))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_saved_encoder_is_loaded_with_its_adapters(tiny_bert, tmp_path, pooling):
    few = AdapterSettings(formats=("proximity", "classification"), config="seq_bn", reduction=4)
    encoder = encoder_of(tiny_bert, "float32", few, pooling=pooling, max_length=100).eval()
    encoder.save(tmp_path / "model", {"method": "tasks"})
    again = Encoder.load(tmp_path / "model")
    assert again.settings.adapters == few
    assert (again.settings.pooling, again.settings.max_length) == (pooling, 100)
    rows, formats = ragged([4, 9, 7]), torch.tensor([2, 0, 2])
    assert torch.equal(again(rows, formats), encoder(rows, formats))
    # Training goes on with one of them, from where it is.
    one = AdapterSettings(formats=("classification",), config="seq_bn[reduction_factor=4]")
    on = Encoder(dataclasses.replace(again.settings, adapters=one)).eval()
    assert torch.equal(on(rows), encoder(rows, torch.zeros(3, dtype=torch.int64)))


def test_a_saved_folder_has_the_plain_base_and_loads_as_no_plain_model(tiny_bert, tmp_path, caplog):
    from safetensors.torch import load_file
    from transformers import AutoModel

    encoder = encoder_of(tiny_bert, "float32").eval()
    folder = tmp_path / "a-bert-model"
    encoder.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["adapters", "base", "sciembed.json"]
    assert sorted(p.name for p in (folder / "adapters").iterdir()) == sorted(CODES)
    with pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(folder)
    first, base = (
        load_file(tiny_bert / "model.safetensors"),
        load_file(folder / "base" / "model.safetensors"),
    )
    assert first.keys() == base.keys()
    assert all(torch.equal(first[k], base[k]) for k in first)
    assert "adapters" not in (folder / "base" / "config.json").read_text()
    assert str(tmp_path) not in "".join(p.read_text() for p in folder.rglob("*.json"))
    assert str(tiny_bert) not in "".join(p.read_text() for p in folder.rglob("*.json"))
    # Saving leaves the encoder as it was, and it can be trained on.
    encoder.train()(ragged([5]), torch.tensor([1])).sum().backward()
    plain = Encoder(EncoderSettings(str(folder)))
    assert "has adapters, which are left out here" in caplog.text
    assert not plain.format_reader.reads_formats


def test_a_folder_whose_base_was_exchanged_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    encoder_of(tiny_bert, "float32").save(tmp_path / "model")
    write_tiny_bert(tmp_path / "model" / "base", seed=4)
    with pytest.raises(UserError, match="whose weights are other ones than those of this backbone"):
        Encoder.load(tmp_path / "model")
