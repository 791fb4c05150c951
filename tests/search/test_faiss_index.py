import sys

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.search.faiss_index import FaissIndex, load_faiss, tune

KINDS = ("flat", "ivf", "hnsw")


def clustered(count, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim)) * 3
    return (centres[rng.integers(20, size=count)] + rng.normal(size=(count, dim))).astype("f4")


def filled(kind, similarity, vectors):
    index = FaissIndex.new(kind, similarity, vectors.shape[1], len(vectors))
    if index.training_size:
        index.train(vectors)
    for start in range(0, len(vectors), 300):
        index.add(vectors[start : start + 300])
    return index


def exact(vectors, query, similarity):
    """Scores of all vectors, by the equations, in float64."""
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if similarity == "cosine":
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        return vectors @ query / lengths
    return -np.linalg.norm(vectors - query, axis=1)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_a_flat_index_gives_the_scores_of_the_equations(similarity):
    vectors = clustered(400)
    index = filled("flat", similarity, vectors)
    scores, rows = index.nearest(vectors[:5] + 0.1, 7)
    for query, row, score in zip(vectors[:5] + 0.1, rows, scores, strict=True):
        expected = exact(vectors, query, similarity)
        assert row.tolist() == np.argsort(-expected)[:7].tolist()
        np.testing.assert_allclose(score, expected[row], atol=1e-3)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
def test_recall_is_that_of_plain_loops_and_its_effort_is_kept(kind, similarity, tmp_path):
    vectors = clustered(1200)
    index = filled(kind, similarity, vectors)
    rows = np.arange(0, 1200, 40)
    recall = tune(index, rows, vectors[rows], (vectors[i : i + 500] for i in range(0, 1200, 500)))
    assert recall is not None
    assert recall == 1.0 if kind == "flat" else recall >= 0.95
    index.save(tmp_path / "i")
    again = FaissIndex.load(tmp_path / "i", kind, similarity, index.effort)
    _, found = again.nearest(vectors[rows], 11)
    hits = 0
    for row, near in zip(rows, found, strict=True):
        truth = exact(vectors, vectors[row], similarity)
        truth[row] = -np.inf
        hits += len(set(np.argsort(-truth)[:10].tolist()) & (set(near.tolist()) - {row}))
    assert abs(hits / (10 * len(rows)) - recall) < 0.01
    np.testing.assert_allclose(again.vector(40), index.prepared(vectors)[40], rtol=1e-6)


def test_a_search_that_looks_into_too_few_clusters_is_seen_in_the_recall():
    vectors = np.random.default_rng(0).normal(size=(4000, 16)).astype("f4")
    index = filled("ivf", "euclidean", vectors)
    rows, blocks = np.arange(50), [vectors]
    assert tune(index, rows, vectors[rows], blocks) >= 0.95
    assert index.effort > 1
    index.index.search = lambda queries, count: _only_itself(count)
    assert tune(index, rows, vectors[rows], blocks) == 0.0
    assert index.effort == index.index.nlist


def _only_itself(count):
    rows = np.full((50, count), -1, np.int64)
    rows[:, 0] = np.arange(50)
    return np.where(rows < 0, np.inf, 0).astype("f4"), rows


def test_equal_vectors_are_all_right_and_one_alone_has_no_recall():
    same = np.ones((30, 4), np.float32)
    index = filled("flat", "cosine", same)
    assert tune(index, np.arange(30), same, [same]) == 1.0
    assert tune(filled("flat", "cosine", same[:1]), np.arange(1), same[:1], [same[:1]]) is None


def test_zeros_are_compared_without_a_warning():
    vectors = np.zeros((3, 4), np.float32)
    vectors[1] = 1
    scores, rows = filled("flat", "cosine", vectors).nearest(vectors[1:2], 3)
    assert rows[0, 0] == 1
    assert scores[0].tolist() == [1, 0, 0]


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install 'sciembed_train\[search\]'"):
        load_faiss()


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "i").write_bytes(b"no index")
    with pytest.raises(UserError, match="is damaged or missing"):
        FaissIndex.load(tmp_path / "i", "flat", "cosine", 0)
