"""Micro-batches through the backbone, and vectors of sentences as a plain loop computes them."""

import pytest
import torch

from sciembed_train.batch import Sentences
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from tests.helpers.unpadded_rows import assert_same, ragged

# Rows of several micro-batches; sentences may touch, leave gaps, and are given in the texts' order.
LENGTHS = [60, 4, 37, 37, 120]
SPANS = [[(3, 10), (13, 20), (40, 19)], [(1, 2)], [(1, 35)], [(5, 1), (6, 30)], [(0, 120)]]
SENTENCES = Sentences(
    torch.tensor([start for row in SPANS for start, _ in row]),
    torch.tensor([length for row in SPANS for _, length in row]),
    torch.tensor([len(row) for row in SPANS]),
)


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def folder(request):
    return request.getfixturevalue(request.param)


def weighted(vectors):
    draw = torch.Generator().manual_seed(9)
    weights = torch.randn(vectors.shape, generator=draw, dtype=torch.float64)
    return (vectors * weights.to(vectors)).sum()


def run(encoder, rows):
    encoder.zero_grad()
    vectors = encoder.sentence_vectors(rows, SENTENCES)
    weighted(vectors).backward()
    return vectors.detach(), {n: p.grad for n, p in encoder.named_parameters()}


def by_a_plain_loop(folder, rows):
    """Vectors and gradients of transformers' own model, text by text."""
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(folder).double().eval()
    vectors = []
    for text, spans in zip(rows.ids.split(rows.lengths.tolist()), SPANS, strict=True):
        states = plain(input_ids=text[None]).last_hidden_state[0]
        vectors += [states[start : start + size].mean(0) for start, size in spans]
    vectors = torch.stack(vectors)
    weighted(vectors).backward()
    return vectors.detach(), {f"backbone.{n}": p.grad for n, p in plain.named_parameters()}


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
@pytest.mark.parametrize("budget", [100, 4096])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_vectors_and_gradients_are_those_of_a_plain_loop(folder, forward, budget, checkpointing):
    settings = EncoderSettings(
        str(folder),
        "sentences",
        dropout=0.0,
        max_tokens_per_forward=budget,
        forward=forward,
        gradient_checkpointing=checkpointing,
    )
    rows = ragged(250, LENGTHS)
    encoder = Encoder(settings).double()
    assert encoder.unpadded == (forward == "unpadded")
    assert_same(run(encoder, rows), by_a_plain_loop(folder, rows), 1e-9)


def test_bfloat16_autocast_stays_near_fp32(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", dropout=0.0))
    rows = ragged(250, LENGTHS)
    exact, exact_grads = run(encoder, rows)
    exact_grads = {n: g.clone() for n, g in exact_grads.items() if g is not None}
    with torch.autocast("cpu", torch.bfloat16):
        near, grads = run(encoder, rows)
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()
    for name, want in exact_grads.items():
        if not name.endswith("key.bias"):
            assert (grads[name] - want).norm() < 0.05 * want.norm(), name


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_any_encoder_gives_the_same_sentences(tiny_bert, pooling, forward):
    rows = ragged(250, LENGTHS)
    settings = EncoderSettings(str(tiny_bert), pooling, forward=forward)
    found = Encoder(settings).double().eval().sentence_vectors(rows, SENTENCES)
    want, _ = by_a_plain_loop(tiny_bert, rows)
    assert (found - want).abs().max() < 1e-9
