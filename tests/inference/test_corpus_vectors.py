from types import SimpleNamespace

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.inference import corpus_vectors as module
from sciembed_train.inference.corpus_vectors import CorpusPapers, corpus_vectors
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.citation_corpus import write_citation_corpus


@pytest.fixture
def corpus(tiny_bert, tmp_path):
    return write_citation_corpus(tmp_path / "corpus", tiny_bert)


def vectors(corpus, model, pooling="mean", restart=False):
    settings = EmbedSettings(pooling=pooling)
    return corpus_vectors(corpus, model, "own", settings, 0, restart, quiet=True)


def test_the_papers_of_a_corpus_are_embedded_once_for_a_model(corpus, tiny_bert, monkeypatch):
    path = vectors(corpus, tiny_bert)
    assert path == corpus.folder / "vectors" / "own.npy"
    texts = [
        {"title": paper.title, "abstract": paper.abstract} for paper in CorpusPapers(corpus, 0)
    ]
    expected = st.load_encoder(tiny_bert, pooling="mean").encode(texts)
    np.testing.assert_allclose(np.load(path), expected, atol=1e-5)
    assert path.with_suffix(".ids.txt").read_text().split() == corpus.paper_ids()

    def never(*_, **__):
        raise AssertionError("embedded again")

    monkeypatch.setattr(module, "embed", never)
    assert vectors(corpus, tiny_bert) == path
    with pytest.raises(AssertionError, match="embedded again"):
        vectors(corpus, tiny_bert, pooling="cls")
    # What began to be replaced is not taken for whole.
    with pytest.raises(AssertionError, match="embedded again"):
        vectors(corpus, tiny_bert)


def test_sentences_of_an_abstract_are_read(corpus, monkeypatch):
    rows = [{"paper_id": "a", "title": "T", "abstract": ["One.", "Two."]}]
    monkeypatch.setattr(type(corpus), "papers", lambda self: iter(rows))
    assert [paper.abstract for paper in CorpusPapers(corpus, 0)] == [("One.", "Two.")]


def test_a_model_of_sentences_is_refused(corpus, tiny_bert, monkeypatch):
    model = SimpleNamespace(pooling=SimpleNamespace(per_sentence=True))
    monkeypatch.setattr(module, "open_encoder", lambda *_: model)
    with pytest.raises(UserError, match="a vector for each sentence"):
        vectors(corpus, tiny_bert)
