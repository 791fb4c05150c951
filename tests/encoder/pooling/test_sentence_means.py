"""An encoder that has vectors of sentences and none of a text."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from tests.helpers.unpadded_rows import ragged

# Rows of several micro-batches; sentences may touch, leave gaps, and are given in the texts' order.
LENGTHS = [60, 4, 37, 37, 120]


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


def test_a_saved_encoder_of_sentences_is_one_again(tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences", 20))
    encoder.save(tmp_path / "a")
    again = Encoder.load(tmp_path / "a")
    assert again.settings.pooling == "sentences"
    both = zip(again.encode_sentences(PAPERS), encoder.encode_sentences(PAPERS), strict=True)
    assert all(torch.equal(one, other) for one, other in both)
