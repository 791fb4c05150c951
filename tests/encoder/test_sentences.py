"""A vector for each sentence: the mean of its tokens' states, as a plain loop computes it."""

import dataclasses

import pytest
import torch

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
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


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_any_encoder_gives_the_same_sentences(tiny_bert, pooling, forward):
    rows = ragged(250, LENGTHS)
    settings = EncoderSettings(str(tiny_bert), pooling, forward=forward)
    found = Encoder(settings).double().eval().sentence_vectors(rows, SENTENCES)
    want, _ = by_a_plain_loop(tiny_bert, rows)
    assert (found - want).abs().max() < 1e-9


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


def test_an_encoder_of_sentences_has_no_vector_of_a_text(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences"))
    rows = ragged(250, LENGTHS)
    for asked in (
        lambda: encoder(rows),
        lambda: encoder.with_token_states(rows, torch.tensor([1])),
        lambda: encoder.encode_rows(rows),
        lambda: encoder.encode_texts(["word1"]),
    ):
        with pytest.raises(ValueError, match="call sentence_vectors or encode_sentences"):
            asked()


PAPERS = [
    ("word1 word2", ["word3 word4 word5", "word6", "", " word7 word8 "]),
    ("word9", []),
    (None, ["word10 word11"]),
    ("word12", ["word13 " * 5, "word14 " * 30, "word15"]),
]


@pytest.mark.parametrize("between", ["joined", "sep"])
def test_sentences_are_read_in_their_paper_and_cut_with_it(tiny_bert, between):
    input_format = InputFormat(sentences=between)
    settings = EncoderSettings(str(tiny_bert), "sentences", 20, input_format)
    encoder = Encoder(settings).double()
    found = encoder.encode_sentences(PAPERS)
    assert [len(vectors) for vectors in found] == [3, 1, 1, 2]
    assert all(v.dtype == torch.float32 and not v.is_inference() for v in found)
    assert encoder.training
    hf = encoder.tokenizer.hf
    gap = ["[SEP]"] if between == "sep" else []
    for (title, sentences), vectors in zip(PAPERS, found, strict=True):
        words = ["[CLS]", *(title.split() if title else [])]
        spans = []
        for number, sentence in enumerate(s.split() for s in sentences if s):
            words += ["[SEP]"] if number == 0 and title else gap if number else []
            spans.append((len(words), len(words) + len(sentence)))
            words += sentence
        words = [*words[:19], "[SEP]"]
        with torch.no_grad():
            ids = torch.tensor([hf.convert_tokens_to_ids(words)])
            states = encoder.eval().backbone(input_ids=ids).last_hidden_state[0]
            encoder.train()
        spans = [(a, min(b, 19)) for a, b in spans if a < 19] or [(1, len(words) - 1)]
        want = torch.stack([states[a:b].mean(0) for a, b in spans])
        assert (vectors - want).abs().max() < 1e-6


def test_papers_are_encoded_alike_alone_and_with_any_budget(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", 20)).double()
    whole, done = encoder.encode_sentences(PAPERS), []
    again = encoder.encode_sentences(PAPERS, batch_tokens=1, progress=done.append)
    alone = [encoder.encode_sentences([paper])[0] for paper in PAPERS]
    for one, other, third in zip(whole, again, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        torch.testing.assert_close(one, third, rtol=0, atol=1e-6)
    assert sum(done) == len(PAPERS)
    assert encoder.encode_sentences([]) == []
    near = encoder.float().encode_sentences(PAPERS, precision="bf16")[0]
    assert 0 < (near - whole[0]).abs().max() < 0.1


def test_a_paper_without_a_word_is_named(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences"))
    with pytest.raises(UserError, match=r"neither title nor abstract to encode: \(None, \['', ' '"):
        encoder.encode_sentences([PAPERS[0], (None, ["", " "])])


def test_a_saved_encoder_of_sentences_is_one_again(tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", 20))
    encoder.save(tmp_path / "a")
    again = Encoder.load(tmp_path / "a")
    assert again.settings.pooling == "sentences"
    both = zip(again.encode_sentences(PAPERS), encoder.encode_sentences(PAPERS), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_rows_of_a_sentenced_paper_are_those_of_its_text(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", 20))
    rows, _ = encoder.sentence_rows(PAPERS)
    want = encoder.rows([encoder.compose(*paper) for paper in PAPERS])
    assert torch.equal(rows.ids, want.ids)
    assert isinstance(rows, TokenRows)
    assert dataclasses.asdict(encoder.settings)["pooling"] == "sentences"
