import numpy as np
import pytest

from tests.helpers.citation_corpus import write_citation_corpus

WIDTH = 6


@pytest.fixture
def corpus(tiny_bert, tmp_path):
    return write_citation_corpus(tmp_path / "corpus", tiny_bert)


@pytest.fixture
def vectors(corpus, tmp_path):
    """Vectors in another order than that of the corpus, and one of a paper that it lacks."""
    rng = np.random.default_rng(5)
    order = rng.permutation(corpus.n_papers + 1)
    rows = rng.normal(size=(corpus.n_papers + 1, WIDTH)) + 0.7
    ids = [*corpus.paper_ids(), "unknown"]
    np.save(tmp_path / "vectors.npy", rows[order].astype(np.float32))
    (tmp_path / "vectors.ids.txt").write_text("".join(f"{ids[i]}\n" for i in order))
    return tmp_path / "vectors.npy", rows
