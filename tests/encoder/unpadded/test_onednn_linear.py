"""Linear layers through oneDNN against float64, and where they are put in."""

import pytest
import torch
import torch.nn.functional as F

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded import onednn_linear
from tests.helpers.unpadded_rows import LENGTHS, assert_same, ragged, run

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN"
)


@pytest.fixture
def everywhere(monkeypatch):
    """oneDNN for products of any size, on any processor; counts its calls."""
    calls = []
    own = onednn_linear._product

    def counted(left, right, bias=None):
        calls.append((tuple(left.shape), tuple(right.shape)))
        return own(left, right, bias)

    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(onednn_linear, "SMALLEST", 0)
    monkeypatch.setattr(onednn_linear, "_product", counted)
    return calls


def layer(shape, wide, biased, seed=0):
    draw = torch.Generator().manual_seed(seed)
    given = torch.randn(*shape, generator=draw)
    weight = torch.randn(wide, shape[-1], generator=draw)
    bias = torch.randn(wide, generator=draw) if biased else None
    return given, weight, bias, torch.randn(*shape[:-1], wide, generator=draw)


@pytest.mark.parametrize("shape", [(37, 24), (1, 24), (3, 11, 24)])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("strided", [True, False])
def test_value_and_gradients_are_those_of_float64(shape, biased, strided):
    given, weight, bias, towards = layer(shape, 40, biased)
    if strided:  # rows that lie apart, and a gradient laid out the other way
        given = torch.cat([given, given], -1)[..., : shape[-1]]
        towards = towards.transpose(0, -1).contiguous().transpose(0, -1)
    leaves = [t.requires_grad_() for t in (given.detach(), weight, bias) if t is not None]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    found, wanted = onednn_linear.linear(*leaves), F.linear(*exact)
    pairs = [(found, wanted)]
    pairs += zip(
        torch.autograd.grad(found, leaves, towards),
        torch.autograd.grad(wanted, exact, towards.double()),
        strict=True,
    )
    for got, want in pairs:
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-6 * want.abs().max()


def test_a_frozen_weight_costs_no_product(everywhere):
    given, weight, bias, towards = layer((37, 24), 40, True)
    found = onednn_linear.linear(given.requires_grad_(), weight, bias)
    found.backward(towards)
    assert everywhere == [((37, 24), (40, 24)), ((37, 40), (24, 40))]


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_encoder_gives_the_same_vectors_and_gradients(
    tiny_bert, everywhere, monkeypatch, pooling, forward, checkpointing
):
    settings = EncoderSettings(
        str(tiny_bert),
        pooling=pooling,
        dropout=0.0,
        forward=forward,
        max_tokens_per_forward=700,
        gradient_checkpointing=checkpointing,
    )
    encoder = Encoder(settings)
    rows = ragged(len(encoder.tokenizer.hf), LENGTHS)
    found = run(encoder, rows)
    # The library's own recomputation does not know of it.
    assert bool(everywhere) == (forward == "unpadded" or not checkpointing)
    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: False)
    assert_same(found, run(encoder, rows), 1e-5)


def test_only_large_products_in_fp32_go_another_way(everywhere, monkeypatch):
    given, weight, bias, _ = layer((37, 24), 40, True)
    with onednn_linear.faster_linear(torch.device("cpu")):
        F.linear(given.double(), weight.double(), bias.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert F.linear(given, weight, bias).dtype == torch.bfloat16
        monkeypatch.setattr(onednn_linear, "SMALLEST", 37 * 24 * 40 + 1)
        F.linear(given, weight, bias)
        assert not everywhere
        monkeypatch.setattr(onednn_linear, "SMALLEST", 37 * 24 * 40)
        F.linear(given, weight, bias)
        F.linear(given, weight, bias=bias)
        F.linear(given, weight)
        torch.nn.Linear(24, 40)(given)
    F.linear(given, weight, bias)  # outside
    assert len(everywhere) == 4


def test_other_devices_and_processors_are_left_alone(monkeypatch):
    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: True)
    given, weight, bias, _ = layer((37, 24), 40, True)
    with onednn_linear.faster_linear(torch.device("meta")):
        assert F.linear(given.to("meta"), weight.to("meta"), bias.to("meta")).is_meta
    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: False)
    with onednn_linear.faster_linear(torch.device("cpu")) as entered:
        assert entered is None


@pytest.mark.parametrize(
    ("vendor", "capability", "yes"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        ("", "AVX512", False),
    ],
)
def test_the_processor_decides(monkeypatch, vendor, capability, yes):
    monkeypatch.setattr(onednn_linear, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert onednn_linear.onednn_is_faster.__wrapped__() == yes
