"""From texts to vectors: cutting, order, precision, sentences."""

import dataclasses

import pytest
import torch

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

TEXTS = ["word1 word2 word3", "word4", "word5 " * 40, ""]


def test_texts_are_cut_and_come_back_in_order_from_any_budget(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=20)).double()
    whole = encoder.encode_texts(TEXTS)
    assert whole.shape == (4, 32)
    assert whole.dtype == torch.float32
    assert not whole.is_inference()
    assert encoder.training
    assert encoder.rows(TEXTS).lengths.tolist() == [5, 3, 20, 2]
    done = []
    again = encoder.encode_texts(TEXTS, batch_tokens=1, progress=done.append)
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-6)
    assert done == [1, 1, 1, 1]
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    assert encoder.encode_texts([]).shape == (0, 32)


def test_bfloat16_encoding_is_near_and_not_the_same(tiny_bert):
    encoder = Encoder.load(tiny_bert)
    exact, near = encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS, precision="bf16")
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.1


SPANS = [[(3, 10), (13, 20), (40, 19)], [(1, 2)], [(1, 35)], [(5, 1), (6, 30)], [(0, 120)]]


SENTENCES = Sentences(
    torch.tensor([start for row in SPANS for start, _ in row]),
    torch.tensor([length for row in SPANS for _, length in row]),
    torch.tensor([len(row) for row in SPANS]),
)


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


def test_rows_of_a_sentenced_paper_are_those_of_its_text(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", 20))
    rows, _ = encoder.sentence_rows(PAPERS)
    want = encoder.rows([encoder.compose(*paper) for paper in PAPERS])
    assert torch.equal(rows.ids, want.ids)
    assert isinstance(rows, TokenRows)
    assert dataclasses.asdict(encoder.settings)["pooling"] == "sentences"
