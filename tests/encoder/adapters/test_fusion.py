"""Fusions of frozen adapters: against the library by hand, what is trained, and files."""

import json
import shutil

import pytest
import torch

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.adapters.fusion import CONFIG, PICKLED, SAFE
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS
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

LENGTHS = [7, 30, 12, 3, 41, 12, 5, 30]
PLACES = torch.tensor([3, 0, 2, 2, 1, 0, 2, 3])
# Each format's own adapter first.
FUSED = {
    "classification": ["[CLF]", "[RGN]", "[PRX]", "[QRY]"],
    "regression": ["[RGN]", "[CLF]", "[PRX]", "[QRY]"],
    "proximity": ["[PRX]", "[CLF]", "[RGN]", "[QRY]"],
    "adhoc_query": ["[QRY]", "[CLF]", "[RGN]", "[PRX]"],
}


@pytest.fixture(scope="module")
def trained(tiny_bert, tmp_path_factory):
    """The folder of a model with four adapters far from the identity."""
    return save_adapters(tiny_bert, tmp_path_factory.mktemp("trained") / "model")


def save_adapters(backbone, folder, config=WIDE):
    settings = EncoderSettings(str(backbone), adapters=AdapterSettings(config=config))
    encoder = Encoder(settings)
    stir(encoder.backbone, encoder.format_reader)
    encoder.save(folder)
    return folder


def fused(folder, dtype="float64", fusion="dynamic", stirred=True, adapters=None, **given):
    wanted = adapters or AdapterSettings(config=WIDE, fusion=fusion)
    torch.manual_seed(1)  # of what is new
    encoder = Encoder(EncoderSettings(str(folder), dropout=0.0, adapters=wanted, **given))
    if stirred:
        draw = torch.Generator().manual_seed(5)
        for name, parameter in sorted(encoder.backbone.named_parameters()):
            if parameter.requires_grad:
                with torch.no_grad():
                    parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
                assert "adapter_fusion_layer" in name
    return encoder.to(getattr(torch, dtype))


def by_hand(encoder, rows, places):
    """Each text through the library's own padded model, with ``Fuse`` set as a user does it."""
    vectors = [torch.empty(0)] * len(rows)
    for place in places.unique().tolist():
        numbers = torch.nonzero(places == place)[:, 0]
        setup = adapters_library.AdapterSetup(adapters_library.Fuse(*FUSED[list(FORMATS)[place]]))
        states = library_padded(encoder.backbone, rows.select(numbers), setup)
        for number, own in zip(numbers.tolist(), states, strict=True):
            vectors[number] = own[0] if encoder.settings.pooling == "cls" else own.mean(0)
    return torch.stack(vectors)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
@pytest.mark.parametrize(
    ("dtype", "part", "pooling", "fusion"),
    [
        ("float64", 1e-12, "cls", "dynamic"),
        ("float64", 1e-12, "mean", "static"),
        ("float32", 1e-6, "cls", "dynamic"),
    ],
)
def test_a_mixed_batch_equals_the_library_with_its_fusions_set_by_hand(
    trained, dtype, part, pooling, fusion, forward, checkpointing
):
    given = {"pooling": pooling, "max_tokens_per_forward": 60, "forward": forward}
    plain = fused(trained, dtype, fusion, **given).eval()
    encoder = fused(trained, dtype, fusion, gradient_checkpointing=checkpointing, **given)
    rows = ragged(LENGTHS)
    want = by_hand(plain, rows, PLACES)
    want_grads = gradients(plain.backbone, want)
    got = encoder(rows, PLACES)
    assert (got - want).abs().max() <= part * want.abs().max()
    # A key's bias adds the same to every adapter's weight: its gradient is rounding alone.
    grads = gradients(encoder.backbone, got)
    for found in (grads, want_grads):
        for name in [n for n in found if "fusion" in n and n.endswith("key.bias")]:
            grad = found.pop(name)
            assert grad is not None
            assert grad.abs().max() < 1e-4
    assert_close(grads, want_grads, 30 * part)


@pytest.mark.parametrize(
    "config", [f"double_{WIDE}", "scaled_par_bn", "compacter[reduction_factor=4]", "seq_bn_inv"]
)
def test_other_bottlenecks_are_fused_as_the_library_does_it(tiny_bert, tmp_path, config):
    folder = save_adapters(tiny_bert, tmp_path / "model", config)
    encoder = fused(folder, adapters=AdapterSettings(config=config, fusion="dynamic")).eval()
    assert encoder.unpadded == ("bn" in config and "inv" not in config)
    rows = ragged(LENGTHS)
    want = by_hand(encoder, rows, PLACES)
    assert (encoder(rows, PLACES) - want).abs().max() <= 1e-10


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_several_forwards_and_one_backward_are_right_with_checkpointing(trained, forward):
    """What is silently wrong where the fusion in use is a state of the model."""
    found = []
    for checkpointing in (False, True):
        encoder = fused(trained, forward=forward, gradient_checkpointing=checkpointing)
        parts = [
            encoder(ragged([6, 11, 4], seed), torch.full((3,), place))
            for seed, place in enumerate([2, 0, 3, 1])
        ]
        found.append(gradients(encoder.backbone, torch.cat(parts)))
    kept = [{n: g for n, g in grads.items() if "key.bias" not in n} for grads in found]
    assert_close(kept[1], kept[0], 1e-12)


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_every_fusion_has_a_gradient_whatever_formats_a_batch_has(trained, forward):
    encoder = fused(trained, forward=forward)
    grads = gradients(encoder.backbone, encoder(ragged([5, 9]), torch.tensor([1, 1])))
    for name, parameter in encoder.backbone.named_parameters():
        grad = grads[name]
        assert (grad is None) == (not parameter.requires_grad), name
        if grad is not None and "key.bias" not in name:
            assert bool(grad.abs().sum() > 0) == ("layer.[RGN]," in name), name


def test_only_the_fusions_are_trained_and_they_have_the_library_s_size(trained):
    encoder = fused(trained)
    names = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert all(".adapter_fusion_layer.[" in name for name in names)
    # Of 2 layers: query and key with biases, and a value, of 32.
    count = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert count == 4 * 2 * (2 * (32 * 32 + 32) + 32 * 32)
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder(ragged(LENGTHS), PLACES).sum().backward()
    optimizer.step()
    changed = {n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])}
    assert changed == names
    # That of BERT base, by the same rule.
    assert 12 * (2 * (768 * 768 + 768) + 768 * 768) == 21_252_096


def test_a_new_fusion_adds_near_the_mean_of_what_the_adapters_say(trained):
    backbone = fused(trained, stirred=False).eval().backbone
    # The library's own penalty of values that are not the identity: nothing at the start.
    assert backbone.get_fusion_regularization_loss().item() < 1e-7
    draw = torch.Generator().manual_seed(2)
    layers = backbone.encoder.layer
    for layer in layers:
        (name, *others) = layer.output.adapter_fusion_layer
        assert len(others) == 3
        fusion = layer.output.adapter_fusion_layer[name]
        assert (fusion.value.weight - torch.eye(32)).abs().max() <= 1.1e-6
        assert not fusion.query.bias.any()
        assert not fusion.key.bias.any()
        said = torch.randn(1, 6, 4, 32, generator=draw).double()
        query, residual = torch.randn(2, 1, 6, 32, generator=draw).double()
        with torch.no_grad():
            found = fusion(query, said, said, residual.clone())
        want = torch.stack(
            [sum(said[0, t, n] for n in range(4)) / 4 + residual[0, t] for t in range(6)]
        )
        assert (found[0] - want).abs().max() < 0.2


def test_a_checkpoint_holds_the_fusions_and_their_adapters_and_names_the_base(trained, tmp_path):
    encoder = fused(trained, "float32").eval()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save(
        {"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, tmp_path / "a"
    )
    content = torch.load(tmp_path / "a", weights_only=True)
    kinds = {"adapter_fusion_layer", "adapters"}
    assert {k.split(".")[6] for k in content["state_dict"] if "layer" in k} == kinds
    again = encoder_from_checkpoint(content)
    rows = ragged(LENGTHS)
    assert torch.equal(again(rows, PLACES), encoder(rows, PLACES))


def test_a_saved_encoder_is_loaded_with_its_fusions_and_training_goes_on(trained, tmp_path):
    encoder = fused(trained, "float32", pooling="mean").eval()
    folder = tmp_path / "model"
    encoder.save(folder)
    assert {p.name for p in (folder / "fusion").iterdir()} == set(CODES)
    rows = ragged(LENGTHS)
    again = Encoder.load(folder)
    assert again.settings.adapters == encoder.settings.adapters
    assert torch.equal(again(rows, PLACES), encoder(rows, PLACES))
    # Given in place of what the folder says: one of them, over two adapters.
    assert Encoder.load(folder, adapters=AdapterSettings(config=WIDE)).format_reader.reads_formats
    start = {"proximity": str(folder / "fusion" / "[PRX]")}
    wanted = AdapterSettings(("proximity",), WIDE, None, {}, "dynamic", tuple(FORMATS), start)
    one = Encoder(EncoderSettings(str(trained), "mean", adapters=wanted)).eval()
    assert torch.equal(one(rows), encoder(rows, torch.full((8,), 2)))


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("safe", [False, True])
def test_the_library_loads_what_was_saved(trained, tmp_path, safe, heads):
    from transformers import AutoModel

    encoder = fused(trained, "float32").eval()
    encoder.save(tmp_path / "model")
    folder = tmp_path / "model"
    assert sorted(p.name for p in (folder / "fusion" / "[PRX]").iterdir()) == sorted(
        [CONFIG, SAFE, PICKLED]
    )
    assert str(tmp_path) not in (folder / "fusion" / "[PRX]" / CONFIG).read_text()
    kind = adapters_library.AutoAdapterModel if heads else AutoModel
    model = kind.from_pretrained(str(folder / "base")).eval()
    if not heads:
        adapters_library.init(model)
    for code in CODES:
        model.load_adapter(str(folder / "adapters" / code), use_safetensors=safe)
    model.load_adapter_fusion(
        str(folder / "fusion" / "[PRX]"), use_safetensors=safe, set_active=True
    )
    assert list(model.active_adapters) == FUSED["proximity"]
    rows = ragged([9, 4])
    with torch.no_grad():
        found = torch.stack([s[0] for s in library_padded(model, rows)])
        want = encoder(rows, torch.tensor([2, 2]))
    assert (found - want).abs().max() < 1e-6


def test_a_fusion_of_other_adapters_or_of_another_kind_is_refused(trained, tmp_path):
    encoder = fused(trained, "float32")
    encoder.save(tmp_path / "model")
    folder = tmp_path / "model" / "fusion" / "[PRX]"
    path = folder / CONFIG
    kept = json.loads(path.read_text())

    def load(**changes):
        path.write_text(json.dumps({**kept, **changes}))
        return Encoder.load(tmp_path / "model")

    load()
    with pytest.raises(UserError, match="the fusion is of the adapters a, b, and here are"):
        load(adapter_names=["a", "b"])
    with pytest.raises(UserError, match="adapters of these names with other weights"):
        load(adapters_fingerprint="other")
    with pytest.raises(UserError, match="whose weights are other ones"):
        load(base_fingerprint="other")
    with pytest.raises(UserError, match=r"hidden_size 768, and this one has 32"):
        load(hidden_size=768)
    with pytest.raises(UserError, match=r"another kind .* value False, expected True"):
        load(config={**kept["config"], "value": False})
    with pytest.raises(UserError, match="is no fusion of the AdapterHub library"):
        load(adapter_names=None)
    load(config={**kept["config"], "dropout_prob": 0.5})
    (folder / SAFE).unlink()
    load()
    torch.save({"a": torch.zeros(1)}, folder / PICKLED)
    with pytest.raises(UserError, match="10 tensors of the fusion are not in its file, and 1"):
        load()
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"\[PRX\]: there is no such folder"):
        Encoder.load(tmp_path / "model")


def test_adapters_that_were_not_trained_are_not_fused(tiny_bert, trained):
    encoder = fused(tiny_bert)
    with pytest.raises(UserError, match=r"trained adapters, and there is none for classification"):
        encoder.format_reader.check_trained()
    held = fused(trained)
    held.format_reader.check_trained()
    start = {name: str(trained / "adapters" / code) for name, code in FORMATS.items()}
    given = AdapterSettings(config=WIDE, start=start, fusion="dynamic")
    named = fused(trained / "base", adapters=given)
    named.format_reader.check_trained()
    rows = ragged(LENGTHS)
    assert torch.equal(named(rows, PLACES), held(rows, PLACES))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fused": ("proximity",)}, "fused is given, but encoder.adapters.fusion is null"),
        ({"fusion_start": {"proximity": "x"}}, "fusion_start is given, but"),
        ({"fusion": "dynamic", "fused": ("proximity",) * 2}, "each once"),
        ({"fusion": "dynamic", "fused": ("proximity", "regression")}, "without all of"),
        ({"fusion": "dynamic", "formats": ("proximity",)}, "only that of proximity"),
        (
            {"fusion": "dynamic", "formats": ("proximity",), "start": {"regression": "x"}},
            "only that of|start names 'regression'",
        ),
    ],
)
def test_settings_that_fuse_nothing_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        AdapterSettings(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fusion": "dynamic-with-values"}, "the library adapters has dynamic, static"),
        ({"fusion": "dynamic", "config": "lora"}, "fuses bottleneck adapters"),
        ({"fusion": "dynamic", "config": "mam"}, "fuses bottleneck adapters"),
    ],
)
def test_fusions_that_the_library_does_not_have_are_refused(tiny_bert, given, says):
    with pytest.raises(UserError, match=says):
        fused(tiny_bert, adapters=AdapterSettings(**given))


def test_settings_come_back_from_plain_values():
    given = AdapterSettings(("proximity",), fusion="static", fused=("regression", "proximity"))
    assert AdapterSettings.from_dict(json.loads(json.dumps(vars(given)))) == given
    assert AdapterSettings().metadata() == {
        **{"formats": tuple(FORMATS), "config": "seq_bn", "reduction": None}
    }
