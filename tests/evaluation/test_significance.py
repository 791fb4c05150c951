import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sciembed_train.evaluation import significance
from sciembed_train.evaluation.significance import (
    Comparison,
    MeanScore,
    bootstrap_means,
    compare,
    compare_queries,
    holm,
    mean_score,
    randomisation_test,
)


def scores(queries=40, gain=0.03, seed=7):
    """Average precisions of two systems on the same queries."""
    rng = np.random.default_rng(seed)
    before = rng.beta(1.2, 2.5, queries)
    return before, np.clip(before + rng.normal(gain, 0.08, queries), 0, 1)


def test_interval_is_scipys_paired_percentile_bootstrap():
    before, after = scores()
    ours = compare(before, after, seed=3)
    theirs = stats.bootstrap(
        (before, after),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    np.testing.assert_allclose((ours.low, ours.high), theirs, atol=1e-12)
    assert ours.difference == pytest.approx(np.mean(after - before), abs=1e-12)
    assert ours.queries == 40


def test_interval_of_a_mean_is_scipys():
    before, _ = scores()
    ours = mean_score(before, seed=5, level=0.9)
    theirs = stats.bootstrap(
        (before,),
        np.mean,
        n_resamples=10_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    np.testing.assert_allclose((ours.low, ours.high), theirs, atol=1e-12)
    assert ours.value == pytest.approx(before.mean())


@pytest.mark.parametrize("gain", [0.0, 0.05, -0.05])
def test_few_queries_have_scipys_exact_p_value(gain):
    before, after = scores(12, gain)
    theirs = stats.permutation_test(
        (before, after),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
    )
    assert randomisation_test(after - before) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_many_queries_have_scipys_p_value_within_the_error_of_10000_samples():
    before, after = scores(60, 0.02)
    theirs = stats.permutation_test(
        (before, after),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=100_000,
        rng=np.random.default_rng(0),
    ).pvalue
    ours = randomisation_test(after - before, seed=1)
    assert 0.001 < ours < 0.999
    assert abs(ours - theirs) < 4 * np.sqrt(theirs * (1 - theirs) / 10_000)


# ranx 0.3.21 (numba 0.68.1): fisher_randomization_test(before, after, n_permutations=100_000). Not
# installed for the tests: it brings eleven packages, a compiler among them.
RANX = {(12, 0.0): 0.63094, (60, 0.02): 0.01397, (60, 0.0): 0.55451, (300, 0.008): 0.00092}


@pytest.mark.parametrize("case", RANX)
def test_p_value_is_that_of_ranx_within_the_error_of_its_samples_and_ours(case):
    before, after = scores(*case)
    theirs = RANX[case]
    error = np.sqrt(theirs * (1 - theirs) * (1 / 10_000 + 1 / 100_000))
    assert abs(randomisation_test(after - before, seed=1) - theirs) < 4 * error


def test_exact_p_value_equals_counting_all_signs():
    differences = np.array([0.2, -0.1, 0.3, 0.0, 0.1, 0.25])
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=6)
    ]
    expected = sum(total >= differences.sum() - 1e-9 for total in sums) / 64
    assert randomisation_test(differences) == expected


def test_resamples_do_not_depend_on_the_block_size(monkeypatch):
    before, after = scores(30)
    whole = compare(before, after, resamples=1000)
    monkeypatch.setattr(significance, "BLOCK_ENTRIES", 7 * 30 + 1)
    assert compare(before, after, resamples=1000) == whole
    few = compare(before[:9], after[:9], resamples=1000)
    monkeypatch.setattr(significance, "BLOCK_ENTRIES", 2**22)
    assert compare(before[:9], after[:9], resamples=1000) == few


def test_seed_decides_the_resamples():
    values = scores()[0]
    np.testing.assert_array_equal(bootstrap_means(values, 50, 1), bootstrap_means(values, 50, 1))
    assert (bootstrap_means(values, 50, 1) != bootstrap_means(values, 50, 2)).any()


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(0.1, 0.3, (400, 60))
    intervals = [compare(np.zeros(60), sample, 500, seed) for seed, sample in enumerate(samples)]
    covered = np.mean([i.low <= 0.1 <= i.high for i in intervals])
    assert 0.91 < covered < 0.98


def test_equal_systems_differ_by_nothing():
    before, _ = scores()
    same = compare(before, before)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert not same.gain
    assert not same.loss


def test_gain_and_loss_mirror_each_other():
    before, after = scores(200, 0.05)
    assert compare(before, after).gain
    mirrored = compare(after, before)
    assert mirrored.loss
    assert not mirrored.gain
    assert mirrored.p_value == compare(before, after).p_value


def test_queries_are_paired_by_their_names():
    before = {q: {"map": v} for q, v in zip("abcdef", [0.1, 0.4, 0.2, 0.9, 0.3, 0.5], strict=True)}
    after = {q: {"map": before[q]["map"] + 0.05} for q in reversed("abcdef")}
    paired = compare_queries(before, after, "map", resamples=200)
    assert paired.low == pytest.approx(0.05)
    assert paired.high == pytest.approx(0.05)
    with pytest.raises(ValueError, match="the queries differ: f"):
        compare_queries(before, {q: after[q] for q in "abcde"}, "map")
    with pytest.raises(KeyError):
        compare_queries(before, after, "ndcg")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_testing_one_after_another(p_values):
    corrected = holm({str(i): p for i, p in enumerate(p_values)})
    for level in (0.01, 0.05, 0.2, 0.7):
        rejected, left = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
        while left and p_values[left[0]] * len(left) <= level:
            rejected.add(str(left.pop(0)))
        assert {name for name, p in corrected.items() if p <= level} == rejected


def test_holm_of_known_values():
    # R 4.3: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    names = "abcde"
    corrected = holm(dict(zip(names, [0.01, 0.02, 0.03, 0.04, 0.05], strict=True)))
    np.testing.assert_allclose(list(corrected.values()), [0.05, 0.08, 0.09, 0.09, 0.09])
    assert list(corrected) == list(names)
    assert holm({}) == {}
    with pytest.raises(ValueError, match="p-value of x is nan"):
        holm({"x": float("nan")})


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([], [], "one query or more"),
        ([[0.1]], [[0.2]], "one query or more"),
        ([0.1, 0.2], [0.1], "no pairs"),
        ([0.1, float("nan")], [0.1, 0.2], "no finite number"),
    ],
)
def test_wrong_scores_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        compare(before, after)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="resamples >= 1"):
        compare([0.1], [0.2], resamples=0)
    with pytest.raises(ValueError, match="level < 1"):
        mean_score([0.1], level=1.0)


def test_results_print_and_survive_json():
    one = Comparison(0.3117, 0.3234, 0.0051, 0.0186, 0.0008, 345)
    assert str(one) == (
        "0.3117 -> 0.3234: +0.0117 (95% interval +0.0051 to +0.0186, p = 0.0008, 345 queries)"
    )
    assert Comparison.from_dict(json.loads(json.dumps(one.as_dict()))) == one
    assert (
        str(MeanScore(0.3117, 0.29, 0.33, 1234, 0.9))
        == "0.3117 (90% interval 0.2900 to 0.3300, 1,234 queries)"
    )
