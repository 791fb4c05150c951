import pytest
import torch

from sciembed_train.export.sentence_probe import probe_papers, transformers_sentence_vectors
from tests.helpers.exports import encoder_of


@pytest.fixture
def encoder(tiny_bert):
    return encoder_of(tiny_bert, pooling="sentences", max_length=512)


def test_the_probe_has_papers_of_every_kind(encoder):
    counts = [len(rows) for rows in encoder.encode_sentences(probe_papers())]
    given = [len(sentences) for _, sentences in probe_papers()]
    assert given[0] == 0
    assert any(0 < count < number for count, number in zip(counts, given, strict=True))
    assert counts[1] == given[1] > 1
    assert counts[-1] == 1 < given[-1]


def test_a_plain_model_gives_the_encoders_sentence_vectors(encoder, tiny_bert):
    papers = probe_papers()
    form = encoder.settings.input_format
    ids, vectors = transformers_sentence_vectors(tiny_bert, form, papers)
    assert max(map(len, ids)) == 512
    expected = torch.cat(encoder.encode_sentences(papers))
    torch.testing.assert_close(torch.cat(vectors), expected, rtol=0, atol=1e-5)
