import itertools

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_normalized_dcg,
)

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import (
    class_metric,
    number_metric,
    ranked_metric,
)
from sciembed_train.evaluation.metrics import Places
from sciembed_train.evaluation.ranking import Ranked

TRUTH, FOUND = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])


def f1(right, found, wanted):
    return 2 * right / (found + wanted)


@pytest.mark.parametrize(
    ("name", "ours", "value"),
    [
        ("f1_macro", "f1_macro", (f1(2, 4, 3) + f1(1, 2, 2) + 0) / 3),
        ("f1_micro", "f1_micro", 3 / 6),
        ("accuracy", "accuracy", 3 / 6),
        ("precision_macro", "precision_macro", (2 / 4 + 1 / 2 + 0) / 3),
        ("recall_macro", "recall_macro", (2 / 3 + 1 / 2 + 0) / 3),
    ],
)
def test_metrics_of_classes_by_hand(name, ours, value):
    found, metric = class_metric(name, False)
    assert found == ours
    assert metric(TRUTH, FOUND) == pytest.approx(value)


def test_a_metric_without_an_average_is_of_class_one():
    name, metric = class_metric("f1", False)
    assert name == "f1_binary"
    # Found 3 of class 1, of which 2 are right; there are 4.
    truth, found = np.array([1, 1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1, 0])
    assert metric(truth, found) == pytest.approx(f1(2, 3, 4))


def test_metrics_of_labels_by_hand():
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    found = np.array([[1, 0], [1, 0], [1, 0]])
    assert class_metric("f1_macro", True)[1](truth, found) == pytest.approx((f1(2, 3, 2) + 0) / 2)
    assert class_metric("f1_micro", True)[1](truth, found) == pytest.approx(f1(2, 3, 3))
    assert class_metric("accuracy", True)[1](truth, found) == pytest.approx(1 / 3)


def test_kendalls_tau_counts_pairs_and_heeds_ties():
    name, metric = number_metric("kendalltau")
    rng = np.random.default_rng(2)
    truth, found = rng.integers(0, 5, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    pairs = [(i, j) for i in range(40) for j in range(i)]
    same = sum(np.sign(truth[i] - truth[j]) * np.sign(found[i] - found[j]) for i, j in pairs)
    untied = [sum(x[i] != x[j] for i, j in pairs) for x in (truth, found)]
    assert name == "kendall_tau_b"
    assert metric(truth, found) == pytest.approx(same / np.sqrt(untied[0] * untied[1]))
    assert metric(truth, found) == pytest.approx(kendalltau(truth, found).statistic)


@pytest.mark.parametrize("name", ["kendalltau", "pearsonr"])
def test_numbers_that_are_all_equal_correlate_with_nothing(name):
    assert number_metric(name)[1](np.arange(5.0), np.full(5, 2.0)) == 0.0


def test_squared_error_and_its_share_by_hand():
    truth, found = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0])
    assert number_metric("mse")[1](truth, found) == pytest.approx(4 / 3)
    assert number_metric("r2")[1](truth, found) == pytest.approx(1 - 4 / 2)
    assert number_metric("pearsonr")[1](truth, truth * -3) == pytest.approx(-1)


def test_metrics_of_rankings_are_those_of_torchmetrics():
    rng = np.random.default_rng(5)
    grades = rng.integers(0, 4, 30)
    scores = torch.arange(30, 0, -1).float()
    average = retrieval_average_precision(scores, torch.from_numpy(grades >= 1)).item()
    gain = retrieval_normalized_dcg(scores, torch.from_numpy(grades)).item()
    ranked = Ranked(grades, None, False)
    assert ranked_metric("map")[1](ranked, grades) == pytest.approx(average)
    assert ranked_metric("ndcg")[1](ranked, grades) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("name", "ours", "value"),
    [
        ("map", "map_grade1", (1 / 1 + 2 / 3) / 3),
        ("recip_rank", "mrr_grade1", 1.0),
        ("Rprec", "r_precision_grade1", 2 / 3),
        ("P_5", "precision5_grade1", 2 / 5),
        ("P.2", "precision2_grade1", 1 / 2),
        ("recall_2", "recall2_grade1", 1 / 3),
        ("ndcg", "ndcg_log2", (2 + 1 / 2) / (2 + 2 / np.log2(3) + 1 / 2)),
        ("ndcg_cut_2", "ndcg2_log2", 2 / (2 + 2 / np.log2(3))),
    ],
)
def test_a_relevant_candidate_that_is_not_ranked_is_not_found(name, ours, value):
    # Grades 2, 0, 1 are ranked; a candidate of grade 2 could not be.
    found, metric = ranked_metric(name)
    assert found == ours
    ranked = Ranked(np.array([2, 0, 1]), None, False)
    assert metric(ranked, np.array([0, 1, 2, 2])) == pytest.approx(value)


@pytest.mark.parametrize(
    "name", ["map", "recip_rank", "Rprec", "P_2", "recall_2", "ndcg", "ndcg_cut_2"]
)
def test_ties_are_scored_by_the_mean_of_their_orders(name):
    # The first is alone, the others at one distance; a candidate of grade 2 could not be ranked.
    metric, judged = ranked_metric(name)[1], np.array([0, 0, 1, 2, 2])
    orders = [(0, *rest) for rest in itertools.permutations((2, 1, 0))]
    mean = np.mean([metric(Ranked(np.array(o), None, False), judged) for o in orders])
    tied = Ranked(np.array([2, 1]), Places(np.array([1, 1]), np.array([3, 3])), True)
    assert metric(tied, judged) == pytest.approx(mean)


@pytest.mark.parametrize("name", ["f1_weighted", "f1macro", "map", "f"])
def test_an_unknown_metric_of_classes_is_refused(name):
    with pytest.raises(UserError, match=f"'{name}' is no metric of a classification"):
        class_metric(name, False)


def test_a_metric_of_one_class_does_not_go_with_several_labels():
    with pytest.raises(UserError, match="give f1_macro"):
        class_metric("f1", True)


def test_other_unknown_metrics_are_refused():
    with pytest.raises(UserError, match="known are kendalltau"):
        number_metric("spearmanr")
    for name in ("P_0", "bpref", "ndcg_cut"):
        with pytest.raises(UserError, match="no metric of a ranking"):
            ranked_metric(name)
