import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.evaluation import distances as module
from sciembed_train.evaluation.distances import distance_rows, refuse_nan, to_unit
from sciembed_train.evaluation.ranking import rank_judged


def test_distances_are_the_same_however_they_are_cut():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(7, 33)).astype(np.float32)
    papers = rng.normal(size=(50, 33)).astype(np.float32)
    papers[41] = papers[3]
    whole = np.stack(list(distance_rows(queries, papers)))
    exact = np.linalg.norm(queries[:, None].astype(np.float64) - papers[None], axis=-1)
    np.testing.assert_allclose(whole, exact, rtol=1e-5)
    for entries in (1, 13, 64, 120):
        cut = np.stack(list(distance_rows(queries, papers, entries=entries)))
        np.testing.assert_array_equal(cut, whole)
    np.testing.assert_array_equal(whole[:, 41], whole[:, 3])


def test_memory_is_bounded_by_the_block(monkeypatch):
    seen = []
    real = torch.cdist

    def watch(a, b, **options):
        seen.append(len(a) * len(b))
        return real(a, b, **options)

    monkeypatch.setattr(torch, "cdist", watch)
    queries, papers = np.zeros((20, 2), np.float32), np.zeros((300, 2), np.float32)
    assert sum(1 for _ in distance_rows(queries, papers, entries=1000)) == 20
    assert max(seen) <= 1000
    assert sum(seen) == 20 * 300


def collection(seed, offset):
    """Queries and papers, among them copies, near copies and copies of the queries."""
    rng = np.random.default_rng(seed)
    papers = rng.normal(size=(400, 24))
    papers[50:100] = papers[7]
    papers[100:200] = papers[7] + rng.normal(size=(100, 24)) * 1e-6
    papers[200:250] = papers[8] + rng.normal(size=(50, 24)) * 1e-3
    papers = (papers + offset).astype(np.float32)
    return papers[[0, 7, 8, 120, 220, 300]].copy(), papers, rng


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 100.0]), st.booleans())
def test_by_products_every_judged_paper_stands_where_it_stands_by_differences(seed, offset, unit):
    queries, papers, rng = collection(seed, offset)
    if unit:
        to_unit(papers)
        to_unit(queries)
    judged = [rng.choice(len(papers), rng.integers(0, 12), replace=False) for _ in queries]
    exact = distance_rows(queries, papers)
    fast = distance_rows(queries, papers, entries=900, judged=judged.__getitem__)
    for want, got, wanted in zip(exact, fast, judged, strict=True):
        np.testing.assert_array_equal(got[wanted], want[wanted])
        np.testing.assert_allclose(got, want, atol=2e-2 * max(offset, 1))
        grades = np.ones(len(wanted), int)
        places, found = (rank_judged(row, wanted, grades).places for row in (want, got))
        np.testing.assert_array_equal(found.first, places.first)
        np.testing.assert_array_equal(found.size, places.size)


def test_most_papers_are_never_compared_by_differences(monkeypatch):
    seen = []
    real = torch.cdist

    def watch(a, b, **options):
        seen.append(len(a) * len(b))
        return real(a, b, **options)

    monkeypatch.setattr(torch, "cdist", watch)
    rng = np.random.default_rng(2)
    papers = rng.normal(size=(20_000, 16)).astype(np.float32)
    to_unit(papers)
    judged = [np.array([5, 77])] * 3
    assert sum(1 for _ in distance_rows(papers[:3], papers, judged=judged.__getitem__)) == 3
    assert sum(seen) < 0.01 * 3 * 20_000
    torch.set_float32_matmul_precision("high")  # the product might then be of TF32
    try:
        seen.clear()
        assert sum(1 for _ in distance_rows(papers[:3], papers, judged=judged.__getitem__)) == 3
    finally:
        torch.set_float32_matmul_precision("highest")
    assert sum(seen) == 3 * 20_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_numbers_out_of_range_are_what_they_are_without_products(bad):
    rng = np.random.default_rng(3)
    papers = rng.normal(size=(30, 8)).astype(np.float32)
    papers[4, 2] = bad
    exact = np.stack(list(distance_rows(papers[:3], papers)))
    fast = np.stack(list(distance_rows(papers[:3], papers, judged=lambda _: np.array([1]))))
    np.testing.assert_array_equal(fast[:, [1]], exact[:, [1]])
    np.testing.assert_array_equal(np.isfinite(fast), np.isfinite(exact))
    assert np.isnan(fast[0, 4]) == np.isnan(bad)


def test_unit_vectors_are_made_in_place_and_equal_ones_stay_equal(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    vectors = np.random.default_rng(0).normal(size=(11, 33)).astype(np.float32)
    vectors[5] = 0
    vectors[10] = vectors[1]
    want = vectors.astype(np.float64)
    want /= np.maximum(np.linalg.norm(want, axis=1, keepdims=True), 1e-9)
    to_unit(vectors)
    np.testing.assert_allclose(vectors, want, rtol=1e-6)
    np.testing.assert_array_equal(vectors[10], vectors[1])


def test_what_is_not_a_number_is_named():
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        refuse_nan(np.array([0.5, np.nan, np.inf]))
    refuse_nan(np.array([0.5, np.inf]))
