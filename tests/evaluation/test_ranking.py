import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.ranking import distance_rows, id_order, judged, nearest, ranks


def by_hand(distances, ids, left_out=None):
    """Ranked papers, by sorting whole tuples."""
    papers = [p for p in range(len(ids)) if p != left_out]
    return sorted(papers, key=lambda p: (distances[p], ids[p]))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_ranks_equal_a_sort_of_distance_then_id(distances, random, leave):
    ids = [str(i) for i in range(len(distances))]
    random.shuffle(ids)
    left_out = random.randrange(len(ids)) if leave else None
    wanted = [p for p in range(len(ids)) if p != left_out and random.random() < 0.4]
    want = by_hand(distances, ids, left_out)
    got = ranks(
        np.array(distances, np.float32), id_order(ids), np.array(wanted, np.int64), left_out
    )
    assert got.tolist() == [want.index(p) + 1 for p in wanted]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_nearest_equals_a_sort(distances):
    ids = [f"{i * 7919 % 101}" for i in range(len(distances))]
    row, order = np.array(distances, np.float32), id_order(ids)
    assert nearest(row, order).tolist() == by_hand(distances, ids)


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
    import torch

    from sciembed_train.evaluation import ranking

    seen = []
    real = torch.cdist

    def watch(a, b, **options):
        seen.append(len(a) * len(b))
        return real(a, b, **options)

    monkeypatch.setattr(ranking.torch, "cdist", watch)
    queries, papers = np.zeros((20, 2), np.float32), np.zeros((300, 2), np.float32)
    assert sum(1 for _ in distance_rows(queries, papers, entries=1000)) == 20
    assert max(seen) <= 1000
    assert sum(seen) == 20 * 300


def test_a_constant_scorer_scores_chance():
    rng = np.random.default_rng(1)
    papers, relevant = 200, 10
    ids = [f"{i:08x}" for i in rng.permutation(10**6)[:papers]]
    flat = np.zeros(papers, np.float32)
    # The relevant papers come first in the file: input order would score 1.
    order, found, chance = id_order(ids), [], []
    for _ in range(400):
        tie_breaks = rng.permutation(papers)
        places = ranks(flat, order[tie_breaks], np.arange(relevant))
        found.append(judged(places, np.ones(relevant, int))["map"])
        guess = np.zeros(papers)
        guess[rng.permutation(papers)[:relevant]] = 1
        chance.append(metrics.average_precision(guess))
    assert np.mean(found) == pytest.approx(np.mean(chance), abs=0.012)
    assert np.mean(found) < 0.12


def test_judged_equals_the_metrics_of_the_whole_ranking():
    places, grades = np.array([4, 1, 30]), np.array([2, 1, 1])
    row = np.zeros(50, int)
    row[places - 1] = grades
    got = judged(places, grades, threshold=2, recalls=(3, 10), cuts=(10,))
    assert got == {
        "map_grade2": metrics.average_precision(row >= 2),
        "mrr_grade2": 0.25,
        "recall3_grade2": 0.0,
        "recall10_grade2": 1.0,
        "ndcg_log2": metrics.ndcg(row),
        "ndcg10_log2": metrics.ndcg(row, 10),
    }


def test_unit_vectors_are_made_in_place_and_equal_ones_stay_equal(monkeypatch):
    from sciembed_train.evaluation import ranking

    monkeypatch.setattr(ranking, "PART", 4)
    vectors = np.random.default_rng(0).normal(size=(11, 33)).astype(np.float32)
    vectors[5] = 0
    vectors[10] = vectors[1]
    want = vectors.astype(np.float64)
    want /= np.maximum(np.linalg.norm(want, axis=1, keepdims=True), 1e-9)
    ranking.to_unit(vectors)
    np.testing.assert_allclose(vectors, want, rtol=1e-6)
    np.testing.assert_array_equal(vectors[10], vectors[1])


def test_a_distance_that_is_not_a_number_has_no_rank():
    distances, order = np.array([0.5, np.nan, 0.1], np.float32), np.arange(3)
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        nearest(distances, order)
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        ranks(distances, order, np.array([0]))
    assert nearest(np.array([0.5, np.inf, 0.1]), order).tolist() == [2, 0, 1]
