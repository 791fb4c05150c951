import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.evaluation import metrics as m
from tests.helpers.places import places

pools = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def plain_average_precision(hits):
    found, total = 0, 0.0
    for rank, hit in enumerate(hits, 1):
        if hit:
            found += 1
            total += found / rank
    return total / found if found else 0.0


@given(pools)
def test_average_precision_equals_the_definition_in_a_loop(grades):
    hits = [g >= 2 for g in grades]
    assert m.average_precision(hits) == pytest.approx(plain_average_precision(hits), abs=1e-12)


def test_ndcg_unit_values_of_both_discounts():
    grades = [2, 1, 2, 0]
    assert m.ndcg(grades, 4, "jk") == pytest.approx(0.920303, abs=1e-6)
    assert m.ndcg(grades, 4, "log2") == pytest.approx(0.965195, abs=1e-6)


@given(pools, st.integers(1, 50))
def test_jk_discount_leaves_the_first_two_ranks_whole(grades, k):
    cut = grades[:k]
    want = cut[0] + sum(g / math.log2(i) for i, g in enumerate(cut[1:], 2))
    assert m.dcg(grades, k, "jk") == pytest.approx(want, abs=1e-12)


def test_exponential_gain():
    assert m.dcg([3, 1], discount="log2", gain="exp") == pytest.approx(7 + 1 / math.log2(3))


def test_binary_metrics_by_hand():
    hits = [0, 1, 0, 1, 0, 0]
    assert m.reciprocal_rank(hits) == 0.5
    assert m.precision_at(hits, 4) == 0.5
    assert m.recall_at(hits, 2) == 0.5
    assert m.f1_at(hits, 4) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert m.r_precision(hits) == 0.5
    assert m.precision_last_relevant(hits) == 0.5
    assert m.precision_last_relevant([1, 0, 0, 0, 1]) == pytest.approx(2 / 5)
    assert m.r_precision([1, 0, 0, 0, 1]) == 0.5
    assert m.precision_at([1], 20) == 1 / 20


def test_nothing_relevant_and_an_empty_ranking_score_zero():
    for hits in ([0, 0, 0], []):
        for score in (
            m.average_precision(hits),
            m.reciprocal_rank(hits),
            m.recall_at(hits, 5),
            m.f1_at(hits, 5),
            m.r_precision(hits),
            m.precision_last_relevant(hits),
            m.ndcg(hits),
        ):
            assert score == 0.0
    assert m.ndcg([3, 2], 0) == 0.0


def test_a_cut_ranking_is_scored_with_all_that_is_relevant():
    whole = [0, 1, 0, 0, 1]
    assert m.average_precision(whole[:3], total=2) == pytest.approx(0.25)
    assert m.recall_at(whole[:3], 3, total=2) == 0.5
    assert m.r_precision(whole[:1], total=2) == 0.0
    assert m.ndcg(whole[:3], 3, judged=[1, 1]) == pytest.approx(m.ndcg(whole, 3))


@given(st.lists(pools, min_size=1, max_size=5))
def test_a_batch_filled_with_zeros_equals_its_rows(rows):
    width = max(map(len, rows))
    batch = np.array([r + [0] * (width - len(r)) for r in rows])
    hits = batch >= 2
    for name, got, alone in (
        ("ap", m.average_precision(hits), [m.average_precision(np.array(r) >= 2) for r in rows]),
        ("rr", m.reciprocal_rank(hits), [m.reciprocal_rank(np.array(r) >= 2) for r in rows]),
        ("rp", m.r_precision(hits), [m.r_precision(np.array(r) >= 2) for r in rows]),
        (
            "last",
            m.precision_last_relevant(hits),
            [m.precision_last_relevant(np.array(r) >= 2) for r in rows],
        ),
        ("recall", m.recall_at(hits, 3), [m.recall_at(np.array(r) >= 2, 3) for r in rows]),
        ("ndcg", m.ndcg(batch, 5, "jk"), [m.ndcg(r, 5, "jk") for r in rows]),
    ):
        np.testing.assert_allclose(got, alone, atol=1e-12, err_msg=name)


def test_standard_forms_equal_torchmetrics():
    import torch
    from torchmetrics.functional import retrieval as tm

    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 60):
        for _ in range(10):
            grades = rng.integers(0, 4, n)
            hits = torch.tensor(grades >= 2)
            # positive and distinct: torchmetrics reads 0 or less as "not retrieved"
            scores = torch.arange(n, 0, -1, dtype=torch.float32)
            pairs = [
                (m.average_precision(hits.numpy()), tm.retrieval_average_precision(scores, hits)),
                (m.reciprocal_rank(hits.numpy()), tm.retrieval_reciprocal_rank(scores, hits)),
                (m.r_precision(hits.numpy()), tm.retrieval_r_precision(scores, hits)),
                (m.recall_at(hits.numpy(), 5), tm.retrieval_recall(scores, hits, top_k=5)),
                (m.precision_at(hits.numpy(), 5), tm.retrieval_precision(scores, hits, top_k=5)),
                (m.ndcg(grades), tm.retrieval_normalized_dcg(scores, torch.tensor(grades))),
                (
                    m.ndcg(grades, 5),
                    tm.retrieval_normalized_dcg(scores, torch.tensor(grades), top_k=5),
                ),
            ]
            for ours, theirs in pairs:
                assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_percent_cut_rounds_down():
    assert [m.percent_cut(n, 20) for n in (4, 5, 99, 100)] == [0, 1, 19, 20]
    assert m.graded([3, 0, 0], 2)["ndcg_pct20_jk"] == 0.0


def test_metrics_import_no_lightning():
    import subprocess
    import sys

    code = (
        "import sys, sciembed_train.evaluation.metrics as m;"
        "bad = [n for n in sys.modules if n.split('.')[0] in"
        " ('lightning', 'pytorch_lightning', 'torch', 'torchmetrics')];"
        "sys.exit(repr(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


TIED_METRICS = {
    "map": lambda g, s: m.average_precision(g >= 2, places=s),
    "map of more": lambda g, s: m.average_precision(g >= 2, 9, s),
    "mrr": lambda g, s: m.reciprocal_rank(g >= 2, s),
    "precision": lambda g, s: m.precision_at(g >= 2, 3, s),
    "recall": lambda g, s: m.recall_at(g >= 2, 3, places=s),
    "f1": lambda g, s: m.f1_at(g >= 2, 3, places=s),
    "r precision": lambda g, s: m.r_precision(g >= 2, places=s),
    "last relevant": lambda g, s: m.precision_last_relevant(g >= 2, s),
    "work saved": lambda g, s: m.work_saved(g >= 2, 9, 0.5, s),
    "ndcg": lambda g, s: m.ndcg(g, places=s),
    "ndcg jk exp": lambda g, s: m.ndcg(g, 3, "jk", "exp", places=s),
}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=5))
def test_with_ties_a_metric_is_its_mean_over_all_orders_of_them(rows):
    grades = np.array([grade for _, grade in sorted(rows)])
    distances = np.array([far for far, _ in sorted(rows)])
    whole, judged = places(distances), grades > 0
    listed = m.Places(whole.first[judged], whole.size[judged])  # the others need not be
    groups = [np.flatnonzero(whole.first == first) for first in np.unique(whole.first)]
    orders = [np.concatenate(o) for o in itertools.product(*map(itertools.permutations, groups))]
    for name, metric in TIED_METRICS.items():
        mean = np.mean([metric(grades[order], None) for order in orders])
        assert metric(grades, whole) == pytest.approx(mean, abs=1e-12), name
        assert metric(grades[judged], listed) == pytest.approx(mean, abs=1e-12), name


@settings(max_examples=25)
@given(pools)
def test_without_a_tie_the_places_change_nothing(grades):
    grades, alone = np.array(grades), places(np.arange(len(grades)))
    for name, metric in TIED_METRICS.items():
        assert metric(grades, alone) == pytest.approx(metric(grades, None), abs=1e-15), name
    assert m.graded(grades, 2) == pytest.approx(m.graded(grades, 2, alone), abs=1e-15)


def test_a_million_papers_at_one_distance_have_a_score():
    grades = np.zeros(10**6, int)
    grades[:3] = 1
    values = m.graded(grades, 1, places(np.zeros(10**6, int)))
    assert values["mrr_grade1"] == pytest.approx(4.2e-5, rel=0.1)
    assert values["precision_last_relevant_grade1"] == pytest.approx(4e-6, rel=0.2)
    assert all(0 < value < 1e-1 for value in values.values())


def test_work_saved_is_by_hand_and_of_the_right_recall():
    # 20 relevant of 100: 95 % are 19, which the first 50 ranks have.
    hits = np.zeros(100)
    hits[[*range(18), 49, 80]] = 1
    assert m.work_saved(hits, 100) == pytest.approx(50 / 100 - 0.05)
    assert m.work_saved(hits, 100, 1.0) == pytest.approx(19 / 100)
    assert m.work_saved(hits[:81], 1000) == pytest.approx(950 / 1000 - 0.05)
    assert m.work_saved(np.zeros(4), 4) == 0
    assert m.work_saved([0, 0, 1], 3) == pytest.approx(-0.05)
