"""Every way of attending against plain loops in float64 and against the padded forward."""

import dataclasses
import math
import sys
from itertools import pairwise
from types import ModuleType
from typing import get_args, get_type_hints

import pytest
import torch

from sciembed_train.batch import Sentences
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.unpadded import attention
from sciembed_train.encoder.unpadded.attention import (
    WAYS,
    Layout,
    attend,
    check,
    preferred,
    why_not,
)
from sciembed_train.errors import UserError
from tests.helpers.unpadded_rows import LENGTHS, assert_same, ragged, run

# On a CPU torch runs nested tensors through an older kind of them, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
CPU = torch.device("cpu")
SIZES = [9, 7, 7, 4, 1, 1]
HERE = ("by_text", "nested", "padded")  # what runs on a CPU


def looped(query, key, value, sizes, heads, alone, window=None, causal=False):
    """softmax(q k / sqrt(C)) v, text by text and head by head, in the type given.

    What asks alone is a text's first token, or where it is causal its last.
    """
    width = query.shape[1] // heads
    out, at, asked = [], 0, 0
    for size in sizes:
        count = 1 if alone else size
        rows = [key[at : at + size], value[at : at + size]]
        q = query[asked : asked + count]
        heads_out = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            own = head * key.shape[1] // query.shape[1]  # neighbouring heads share one of keys
            shared = slice(own * width, (own + 1) * width)
            scores = q[:, part] @ rows[0][:, shared].T / math.sqrt(width)
            first = size - 1 if causal and alone else 0
            for i in range(count):
                for j in range(size):
                    before = i + first - j
                    if (window is not None and abs(before) > window) or (causal and before < 0):
                        scores[i, j] = -math.inf
            heads_out.append(torch.softmax(scores, 1) @ rows[1][:, shared])
        out.append(torch.cat(heads_out, 1))
        at, asked = at + size, asked + count
    return torch.cat(out)


def inputs(alone, dtype=torch.float64, sizes=SIZES, width=16):
    draw = torch.Generator().manual_seed(3)
    counts = len(sizes) if alone else sum(sizes), sum(sizes), sum(sizes)
    return [
        torch.randn(n, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        for n in counts
    ]


def varlen_reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)):
    """What torch documents of `varlen_attn`, and refusals of what its kernel does not take."""
    for bounds, most, rows in ((cu_seq_q, max_q, query), (cu_seq_k, max_k, key)):
        assert bounds.dtype == torch.int32
        assert bounds[0] == 0
        assert bounds[-1] == rows.shape[0]
        assert type(most) is int
        assert most == bounds.diff().max()
        assert rows.ndim == 3
    assert len(cu_seq_q) == len(cu_seq_k)
    out = []
    for (a, b), (c, d) in zip(*(pairwise(x.tolist()) for x in (cu_seq_q, cu_seq_k)), strict=True):
        scores = torch.einsum("qac,kac->aqk", query[a:b], key[c:d]) / math.sqrt(query.shape[2])
        if window_size != (-1, -1):
            # The kernel counts from the ends of queries and keys, so a first token by itself
            # would be taken for the last one.
            at = torch.arange(b - a).unsqueeze(1) + (d - c) - (b - a)
            away = torch.arange(d - c) - at
            left, right = (math.inf if side == -1 else side for side in window_size)
            hidden = (away < -left) | (away > right)
            scores = scores.masked_fill(hidden, -math.inf)
        out.append(torch.einsum("aqk,kac->qac", torch.softmax(scores, 2), value[c:d]))
    return torch.cat(out)


@pytest.fixture
def varlen(monkeypatch):
    """The reference in the place of torch's kernel, and nothing that refuses a CPU."""
    module = ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = varlen_reference
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.nn.attention, "varlen", module, raising=False)
    monkeypatch.setattr(attention, "why_not", lambda *given: None)


@pytest.mark.parametrize("alone", [False, True], ids=["all", "range_starts"])
@pytest.mark.parametrize("name", HERE)
def test_every_way_gives_what_plain_loops_give(name, alone):
    layout, _ = Layout.of(SIZES, CPU)
    given = inputs(alone)
    found, want = attend(*given, layout, 2, 0.0, name), looped(*given, SIZES, 2, alone)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).view_as(want)
    grads = [torch.autograd.grad((x * weights).sum(), given) for x in (found, want)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


# By one mask and in blocks, texts within the window to one side, and both in one micro-batch.
WINDOWED = [(2, [9, 7, 7, 4, 2, 1]), (1, [9, 7, 7, 4, 2, 1]), (8, [9, 9, 4]), (3, [31, 30, 30, 8])]


@pytest.mark.parametrize("alone", [False, True], ids=["all", "range_starts"])
@pytest.mark.parametrize(("window", "sizes"), WINDOWED)
@pytest.mark.parametrize("name", [*HERE, "varlen"])
def test_every_way_sees_no_further_than_the_window(request, name, window, sizes, alone):
    if name == "varlen":
        request.getfixturevalue("varlen")
    layout, _ = Layout.of(sizes, CPU)
    given = inputs(alone, sizes=sizes)
    found = attend(*given, layout, 2, 0.0, name, window=window)
    want = looped(*given, sizes, 2, alone, window)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).view_as(want)
    grads = [torch.autograd.grad((x * weights).sum(), given) for x in (found, want)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)
    within = looped(*given, sizes, 2, alone)
    assert torch.allclose(found, within) == (max(sizes) <= window + 1)


@pytest.mark.parametrize("alone", [False, True], ids=["all", "last"])
@pytest.mark.parametrize("window", [None, 2, 8])
@pytest.mark.parametrize("name", [*HERE, "varlen"])
def test_every_way_sees_nothing_that_follows(request, name, window, alone):
    if name == "varlen":
        request.getfixturevalue("varlen")
    sizes = [31, 30, 30, 8, 4, 1]
    layout, _ = Layout.of(sizes, CPU)
    given = inputs(alone, sizes=sizes)
    found = attend(*given, layout, 2, 0.0, name, window=window, causal=True)
    want = looped(*given, sizes, 2, alone, window, causal=True)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).view_as(want)
    grads = [torch.autograd.grad((x * weights).sum(), given) for x in (found, want)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)
    assert alone or not torch.allclose(found, looped(*given, sizes, 2, alone, window))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", [*HERE, "varlen"])
def test_heads_may_share_keys_and_values(request, name, causal):
    if name == "varlen":
        request.getfixturevalue("varlen")
    query, key, value = inputs(False, width=32)
    given = query, key[:, :16], value[:, :16]
    found = attend(*given, Layout.of(SIZES, CPU)[0], 4, 0.0, name, causal=causal)
    want = looped(*given, SIZES, 4, False, causal=causal)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


def test_a_kernel_that_knows_no_windows_is_not_asked_for_one(varlen, monkeypatch):
    def older(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        raise AssertionError("called")

    monkeypatch.setattr(sys.modules["torch.nn.attention.varlen"], "varlen_attn", older)
    given = inputs(False)
    found = attend(*given, Layout.of(SIZES, CPU)[0], 2, 0.0, "varlen", window=2)
    torch.testing.assert_close(found, looped(*given, SIZES, 2, False, 2), rtol=0, atol=1e-12)
    # Nor for an order, which it takes as a window to one side.
    found = attend(*given, Layout.of(SIZES, CPU)[0], 2, 0.0, "varlen", causal=True)
    want = looped(*given, SIZES, 2, False, causal=True)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["by_text", "padded"])
def test_weights_within_a_window_are_dropped_too(name):
    layout, _ = Layout.of([31, 30, 8], CPU)
    given = inputs(False, sizes=[31, 30, 8])
    exact = attend(*given, layout, 2, 0.0, name, window=3)
    torch.manual_seed(0)
    mean = sum(attend(*given, layout, 2, 0.3, name, window=3) for _ in range(400)) / 400
    assert (mean - exact).abs().max() < 0.25 * exact.abs().max()
    assert not torch.allclose(attend(*given, layout, 2, 0.3, name, window=3), exact)


@pytest.mark.parametrize("alone", [False, True], ids=["all", "range_starts"])
@pytest.mark.parametrize("name", HERE)
def test_every_way_runs_in_inference_mode(name, alone):
    given = inputs(alone)
    with torch.inference_mode():
        found = attend(*given, Layout.of(SIZES, CPU)[0], 2, 0.0, name)
        want = looped(*given, SIZES, 2, alone)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


def test_layers_that_are_computed_again_do_without_nested_tensors(tiny_bert, monkeypatch):
    monkeypatch.setattr(attention, "preferred", lambda *given: "nested")
    settings = EncoderSettings(str(tiny_bert), dropout=0.0)
    plain, again = (
        Encoder(dataclasses.replace(settings, gradient_checkpointing=c)) for c in (False, True)
    )
    assert_same(*(run(encoder, ragged(250, LENGTHS)) for encoder in (plain, again)), 1e-5)
    names = [encoder.attention_on("cpu", torch.float32) for encoder in (plain, again)]
    assert names == ["nested", "padded"]
    with pytest.raises(UserError, match=r"encoder\.attention is 'nested'.*checkpointing is true"):
        dataclasses.replace(settings, gradient_checkpointing=True, attention="nested")


@pytest.mark.parametrize("alone", [False, True], ids=["all", "range_starts"])
def test_varlen_is_called_as_torch_documents_it(varlen, alone):
    layout, _ = Layout.of(SIZES, CPU)
    given = inputs(alone)
    found = attend(*given, layout, 2, 0.0, "varlen")
    torch.testing.assert_close(found, looped(*given, SIZES, 2, alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "pooling", "dtype", "tolerance"),
    [
        ("tiny_bert", "cls", "float64", 1e-9),
        ("tiny_bert", "cls", "float32", 1e-5),
        ("tiny_roberta", "mean", "float32", 1e-5),
        ("tiny_roberta", "mix", "float64", 1e-9),
    ],
)
@pytest.mark.parametrize("name", [*HERE, "varlen"])
def test_every_way_equals_the_padded_reference(request, model, pooling, name, dtype, tolerance):
    if name == "varlen":
        request.getfixturevalue("varlen")
    folder = request.getfixturevalue(model)
    settings = EncoderSettings(
        str(folder), pooling=pooling, dropout=0.0, max_tokens_per_forward=700
    )
    both = []
    for changed in ({"attention": name}, {"forward": "padded"}):
        encoder = Encoder(dataclasses.replace(settings, **changed))
        both.append(run(encoder.to(getattr(torch, dtype)), ragged(250, LENGTHS)))
    assert_same(*both, tolerance)


@pytest.mark.parametrize("name", HERE)
def test_masked_tokens_and_sentences_are_the_same_in_every_way(name, tiny_bert):
    rows = ragged(250, [30, 8, 8])
    positions = torch.tensor([0, 29, 31, 45])
    sentences = Sentences(*map(torch.tensor, ([1, 9, 0, 2], [8, 20, 8, 5], [2, 1, 1])))
    found = []
    for changed in ({"attention": name}, {"forward": "padded"}):
        settings = dataclasses.replace(EncoderSettings(str(tiny_bert), dropout=0.0), **changed)
        encoder = Encoder(settings, masked_lm=True).double()
        states = encoder.with_token_states(rows, positions)[1]
        spans = encoder.sentence_vectors(rows, sentences)
        torch.manual_seed(0)  # the head is new
        found.append((encoder.backbone.embeddings.word_embeddings.weight, states, spans))
    for one, other in zip(*(f[1:] for f in found), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    losses = [(states**2).sum() + (spans**3).sum() for _, states, spans in found]
    grads = [
        torch.autograd.grad(loss, weight)[0]
        for loss, (weight, *_) in zip(losses, found, strict=True)
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["by_text", "padded"])
def test_in_bf16_every_way_is_as_near_to_fp32_as_the_padded_forward(name, tiny_bert):
    rows = ragged(250, LENGTHS)
    settings = EncoderSettings(str(tiny_bert), dropout=0.0)
    padded = Encoder(dataclasses.replace(settings, forward="padded"))
    exact = run(padded, rows)[0]
    off = []
    for encoder in (padded, Encoder(dataclasses.replace(settings, attention=name))):
        with torch.autocast("cpu", torch.bfloat16):
            off.append((run(encoder, rows)[0] - exact).abs().mean())
    assert 0 < off[1] < 1.5 * off[0]


@pytest.mark.parametrize("name", HERE)
def test_dropout_of_attention_weights_keeps_the_mean(name):
    layout, _ = Layout.of([10, 9, 8], CPU)
    given = [x.detach().float() for x in inputs(False, sizes=[10, 9, 8])]
    torch.manual_seed(1)
    many = torch.stack([attend(*given, layout, 2, 0.3, name) for _ in range(400)])
    exact = attend(*given, layout, 2, 0.0, name)
    assert (many.mean(0) - exact).abs().max() < 0.2
    assert (many[0] - exact).abs().max() > 0.2


@pytest.mark.parametrize(
    ("kind", "dtype", "dropout", "taken"),
    [
        ("cpu", torch.float32, 0.1, "by_text"),
        ("cpu", torch.bfloat16, 0.0, "by_text"),
        ("cuda", torch.bfloat16, 0.0, "varlen"),
        ("cuda", torch.float16, 0.0, "varlen"),
        ("cuda", torch.bfloat16, 0.1, "nested"),
        ("cuda", torch.float32, 0.0, "nested"),
        ("mps", torch.float32, 0.1, "padded"),
    ],
)
def test_the_table_of_what_is_taken_where(kind, dtype, dropout, taken, monkeypatch):
    monkeypatch.setattr(attention, "_varlen_here", lambda: None)
    assert preferred(kind, dtype, dropout, 64) == taken
    assert why_not(taken, kind, dtype, dropout, 64) is None


def test_without_the_kernel_the_other_one_is_taken(monkeypatch):
    given = "cuda", torch.bfloat16, 0.0, 64
    monkeypatch.setattr(attention, "_varlen_here", lambda: "torch 2.10 has none")
    assert preferred(*given) == "nested"
    monkeypatch.setattr(attention, "_varlen_here", lambda: None)
    assert preferred("cuda", torch.bfloat16, 0.0, 20) == "nested"  # heads 20 wide


@pytest.mark.parametrize(
    ("kind", "dtype", "dropout", "said"),
    [
        ("cpu", torch.bfloat16, 0.0, "for CUDA devices, and this is cpu"),
        ("cuda", torch.float32, 0.0, "these numbers are float32"),
        ("cuda", torch.bfloat16, 0.1, "the dropout is 0.1"),
    ],
)
def test_a_way_that_cannot_run_is_refused_with_what_can(kind, dtype, dropout, said):
    with pytest.raises(UserError, match=said) as told:
        check("varlen", kind, dtype, dropout, 64)
    able = [way for way in WAYS if not why_not(way, kind, dtype, dropout, 64)]
    assert f"What can run here is {', '.join(able)}; auto takes {able[kind == 'cuda']}" in str(
        told.value
    )


def test_an_encoder_refuses_a_way_that_cannot_run_where_it_is(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), attention="varlen"))
    with pytest.raises(UserError, match=r"encoder\.attention is varlen"):
        encoder(ragged(250, [5]))


def test_every_way_has_a_name_that_settings_take():
    assert get_args(get_type_hints(EncoderSettings)["attention"]) == attention.NAMES


@pytest.mark.gpu
@pytest.mark.parametrize("alone", [False, True], ids=["all", "range_starts"])
@pytest.mark.parametrize("name", ["varlen", "nested", "padded"])
def test_on_a_gpu_every_way_gives_what_plain_loops_give(name, alone):
    if not torch.cuda.is_available():
        pytest.skip("the kernels of varlen and nested are for CUDA devices")
    layout, _ = Layout.of(SIZES, torch.device("cuda"))
    given = [x.detach().cuda().bfloat16() for x in inputs(alone, width=32)]
    found = attend(*given, layout, 2, 0.0, name)
    want = looped(*(x.double() for x in given), SIZES, 2, alone)
    torch.testing.assert_close(found.double(), want, rtol=0.02, atol=0.02)
