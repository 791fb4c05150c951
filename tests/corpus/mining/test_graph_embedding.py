import subprocess
import sys

import numpy as np
import pytest

from sciembed_train.corpus.mining import graph_embedding
from sciembed_train.corpus.mining.graph_embedding import (
    SCALE,
    adjacency,
    check_installed,
    components,
    write_embedding,
)
from sciembed_train.corpus.mining.neighbour_settings import MOST_DIMENSIONS
from sciembed_train.errors import UserError


def random_edges(n, count, seed=0):
    pairs = np.random.default_rng(seed).integers(0, n, (count, 2))
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def embed(tmp_path, edges, n, dimension=768, seed=0, memory=10**9):
    return write_embedding(tmp_path / "v.npy", adjacency(edges, n), dimension, seed, memory)


def test_citations_both_ways_are_one_edge():
    matrix = adjacency(np.array([[0, 1], [1, 0], [1, 2]]), 4).toarray()
    assert matrix.tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_papers_that_citations_lead_between_are_one_component():
    parts = components(adjacency(np.array([[0, 1], [2, 1], [3, 4]]), 5))
    assert parts[0] == parts[1] == parts[2] != parts[3] == parts[4]


def test_inner_products_are_those_of_the_walk_matrix(tmp_path):
    edges, n = random_edges(60, 150), 60
    vectors, known = embed(tmp_path, edges, n, dimension=4096)
    a = adjacency(edges, n).toarray()
    degree = a.sum(1)
    s = a / np.sqrt(degree[:, None] * degree[None])
    logs = a * np.log(1 + degree.sum() / (degree[:, None] * degree[None]))
    walks = sum(np.linalg.matrix_power(s, k) for k in (2, 3, 4)) @ logs
    walks /= np.linalg.norm(walks, axis=1, keepdims=True)
    found = vectors.astype(np.float64) / SCALE
    assert known.all()
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-3
    assert np.abs(found @ found.T - walks @ walks.T).max() < 6 / np.sqrt(4096)


def test_any_order_of_summation_gives_the_same_inner_products(tmp_path):
    assert (SCALE + np.sqrt(MOST_DIMENSIONS) / 2) ** 2 < 2**24
    vectors, _ = embed(tmp_path, random_edges(300, 900), 300, dimension=4096)
    assert (vectors == np.rint(vectors)).all()
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    for order in (slice(None), slice(None, None, -1)):
        ordered = np.ascontiguousarray(vectors[:, order])
        assert (ordered @ ordered.T == exact).all()


def test_blocks_of_columns_and_threads_change_nothing(tmp_path):
    edges = random_edges(200, 700)
    whole, _ = embed(tmp_path, edges, 200)
    whole = np.array(whole)
    seen = []
    least, _ = write_embedding(
        tmp_path / "w.npy", adjacency(edges, 200), 768, 0, 1, lambda *done: seen.append(done)
    )
    assert (least == whole).all()
    assert seen == [(i, 768) for i in range(1, 769)]
    other, _ = write_embedding(tmp_path / "s.npy", adjacency(edges, 200), 768, 1, 10**9)
    assert (other != whole).any()


def test_a_paper_without_a_citation_has_no_vector(tmp_path):
    vectors, known = embed(tmp_path, np.array([[0, 1]]), 3)
    assert known.tolist() == [True, True, False]
    assert not vectors[2].any()


def test_a_missing_scipy_is_an_error_that_says_how_to_install_it(monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(UserError, match=r"pip install 'sciembed_train\[graph\]'"):
        check_installed()


def test_scipy_is_imported_where_it_is_used():
    code = f"import sys, {graph_embedding.__name__}; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
