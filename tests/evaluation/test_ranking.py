import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.ranking import (
    TIE_RULES,
    Ranked,
    id_order,
    judged,
    nearest,
    rank_judged,
    rank_pool,
    ranks,
    tie_order,
)


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


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from(list(TIE_RULES)),
)
def test_judged_papers_stand_where_a_sort_of_all_puts_them(rows, random, leave, rule):
    ids = [f"{i:02}" for i in range(len(rows))]
    random.shuffle(ids)
    left_out = random.randrange(len(ids)) if leave else None
    wanted = [p for p in range(len(ids)) if p != left_out and random.random() < 0.4]
    distances = np.array([far for far, _ in rows], np.float32)
    grade_of = {p: rows[p][1] for p in wanted}
    want = by_hand(distances, ids, left_out)
    if rule == "trec_eval":
        want = sorted(sorted(want, key=ids.__getitem__, reverse=True), key=distances.__getitem__)
    got = rank_judged(
        distances,
        np.array(wanted, np.int64),
        np.array(list(grade_of.values()), np.int64),
        tie_order(ids, rule),
        left_out,
    )
    groups = {far: [p for p in want if distances[p] == far] for far in set(distances.tolist())}
    mixed = [len({grade_of.get(p, 0) for p in groups[distances[w]]}) > 1 for w in wanted]
    assert got.tied == any(mixed)
    first, size = got.places.first.tolist(), got.places.size.tolist()
    if rule != "expected":
        placed = sorted((want.index(p), grade_of[p], 1) for p in wanted)
    else:
        own = [groups[distances[p]] for p in wanted]
        placed = sorted(
            (want.index(group[0]), grade_of[p], len(group))
            for p, group in zip(wanted, own, strict=True)
        )
    assert first == sorted(first)
    assert sorted(zip(first, got.grades.tolist(), size, strict=True)) == placed


def test_a_constant_scorer_scores_chance_whatever_the_ids_are():
    rng = np.random.default_rng(1)
    papers, relevant = 200, 10
    flat, ones = np.zeros(papers, np.float32), np.ones(relevant, int)
    ids = [f"{i:03}" for i in range(papers)]
    # The relevant papers come first in the file and by their ids: either would score 1.
    by_id = rank_judged(flat, np.arange(relevant), ones, tie_order(ids, "paper_id"))
    assert judged(by_id)["map"] == 1
    expected = rank_judged(flat, np.arange(relevant), ones)
    assert expected.tied
    chance = []
    for _ in range(4000):
        guess = np.zeros(papers)
        guess[rng.permutation(papers)[:relevant]] = 1
        chance.append(metrics.average_precision(guess))
    assert judged(expected)["map"] == pytest.approx(np.mean(chance), abs=0.002)
    assert judged(expected)["recall10"] == pytest.approx(10 / papers)


def test_twenty_papers_with_one_text_have_one_score():
    distances = np.zeros(20, np.float32)
    grades = [1, 1, *[0] * 18]
    for ids in ([f"{i:02}" for i in range(20)], [f"{19 - i:02}" for i in range(20)]):
        ranked = rank_pool(distances, grades, ids, "expected")
        mean = metrics.average_precision(ranked.grades, places=ranked.places)
        first_second = np.mean([(1 / i + 2 / j) / 2 for j in range(2, 21) for i in range(1, j)])
        assert mean == pytest.approx(first_second)
    rules = {rule: judged(rank_pool(distances, grades, ids, rule))["map"] for rule in TIE_RULES}
    assert rules["trec_eval"] == 1.0
    assert rules["paper_id"] == pytest.approx((1 / 19 + 2 / 20) / 2)


def test_papers_of_one_grade_at_one_distance_are_no_tie():
    distances = np.array([0.1, 0.1, 0.2, 0.2, 0.3], np.float32)
    assert not rank_pool(distances, [1, 1, 0, 0, 1], list("abcde"), "expected").tied
    assert rank_pool(distances, [1, 1, 0, 2, 1], list("abcde"), "expected").tied


def test_judged_equals_the_metrics_of_the_whole_ranking():
    row = np.zeros(50, int)
    row[[3, 0, 29]] = [2, 1, 1]
    got = judged(Ranked(row[:30], None, False), threshold=2, recalls=(3, 10), cuts=(10,))
    assert got == {
        "map_grade2": metrics.average_precision(row >= 2),
        "mrr_grade2": 0.25,
        "recall3_grade2": 0.0,
        "recall10_grade2": 1.0,
        "ndcg_log2": metrics.ndcg(row),
        "ndcg10_log2": metrics.ndcg(row, 10),
    }


def test_a_distance_that_is_not_a_number_has_no_rank():
    distances, order = np.array([0.5, np.nan, 0.1], np.float32), np.arange(3)
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        nearest(distances, order)
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        ranks(distances, order, np.array([0]))
    with pytest.raises(UserError, match="paper 2 of 3 is not a number"):
        rank_judged(distances, np.array([0]), np.ones(1, int))
    assert nearest(np.array([0.5, np.inf, 0.1]), order).tolist() == [2, 0, 1]
