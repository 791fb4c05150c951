import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC, LinearSVR

from sciembed_train.errors import UserError
from sciembed_train.evaluation import probes


@pytest.fixture
def cloud():
    """Embeddings that tell a class of three, and a number, but not well."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 90)
    x = (rng.normal(size=(3, 8))[y] + 1.5 * rng.normal(size=(90, 8))).astype(np.float32)
    return x[:60], y[:60].astype(np.int64), x[60:], y[60:].astype(np.int64)


def plain(fit):
    """The result of plain scikit-learn calls, whose warnings are not the point here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit()


def test_classes_are_those_of_scikit_learns_grid_search(cloud):
    x, y, new, truth = cloud
    grid = GridSearchCV(
        LinearSVC(loss="squared_hinge", dual=True, random_state=42),
        {"C": [0.01, 0.1, 1.0, 10.0, 100.0]},
        cv=3,
    )
    plain(lambda: grid.fit(x, y))
    told = probes.classification_probe(x, y, new)
    np.testing.assert_array_equal(told.predictions, grid.predict(new))
    assert told.costs == [grid.best_params_["C"]]
    assert told.untuned == 0
    assert (told.predictions == truth).mean() > 0.5


def test_the_grid_has_the_published_costs():
    np.testing.assert_allclose(probes.CLASS_COSTS, np.logspace(-2, 2, 5))
    np.testing.assert_allclose(probes.NUMBER_COSTS, np.logspace(-4, 2, 7))


def test_labels_are_those_of_one_against_the_rest(cloud):
    x, y, new, _ = cloud
    labels = np.stack([y == 0, y == 1, y >= 1, x[:, 0] > 0], axis=1).astype(np.int64)
    machine = LinearSVC(loss="hinge", dual=True, max_iter=10_000, random_state=42)
    grid = GridSearchCV(machine, {"C": list(np.logspace(-2, 2, 5))}, cv=3)
    reference = OneVsRestClassifier(grid)
    plain(lambda: reference.fit(x, labels))
    told = probes.multi_label_probe(x, labels, new)
    np.testing.assert_array_equal(told.predictions, reference.predict(new))
    assert told.costs == [one.best_params_["C"] for one in reference.estimators_]


def test_a_label_that_nothing_or_everything_has_is_told_alike(cloud):
    x, y, new, _ = cloud
    labels = np.stack([y == 0, y < 0, y >= 0], axis=1).astype(np.int64)
    labels[:, 0] = 0
    labels[5, 0] = 1  # one paper is too few for a grid
    told = probes.multi_label_probe(x, labels, new)
    assert not told.predictions[:, 1].any()
    assert told.predictions[:, 2].all()
    assert (told.constant, told.untuned, told.costs) == (2, 1, [1.0])


def test_numbers_are_those_of_scikit_learns_grid_search(cloud):
    x, _, new, _ = cloud
    y = x @ np.arange(8.0) + np.random.default_rng(0).normal(size=len(x))
    grid = GridSearchCV(
        LinearSVR(dual=True, random_state=42), {"C": list(np.logspace(-4, 2, 7))}, cv=3
    )
    plain(lambda: grid.fit(x, y))
    told = probes.regression_probe(x, y, new)
    np.testing.assert_allclose(told.predictions, grid.predict(new), rtol=1e-12)
    assert told.costs == [grid.best_params_["C"]]
    assert np.corrcoef(told.predictions, new @ np.arange(8.0))[0, 1] > 0.9


def test_several_processes_change_nothing(cloud, monkeypatch):
    x, y, new, _ = cloud
    alone = probes.classification_probe(x, y, new)
    monkeypatch.setattr(probes, "LARGE", 0)
    monkeypatch.setattr(probes, "_cores", lambda: 2)
    together = probes.classification_probe(x, y, new)
    np.testing.assert_array_equal(alone.predictions, together.predictions)
    assert alone.costs == together.costs


def test_a_few_shot_run_takes_the_default_cost(cloud):
    x, y, new, _ = cloud
    reference = LinearSVC(loss="squared_hinge", dual=True, random_state=42)
    told = probes.classification_probe(x[:12], y[:12], new, grid=False)
    np.testing.assert_array_equal(
        told.predictions, plain(lambda: reference.fit(x[:12], y[:12])).predict(new)
    )
    assert (told.costs, told.untuned) == ([1.0], 0)


def test_one_class_alone_is_told_of_every_paper(cloud):
    x, y, new, _ = cloud
    told = probes.classification_probe(x, np.full_like(y, 2), new)
    assert set(told.predictions) == {2}
    assert told.constant == 1


def test_a_class_too_rare_for_three_folds_gets_fewer_or_no_grid(cloud):
    x, _, new, _ = cloud
    y = np.zeros(len(x), dtype=np.int64)
    y[7] = 1
    assert probes.classification_probe(x, y, new).untuned == 1
    y[31] = 1
    two = probes.classification_probe(x, y, new)
    grid = GridSearchCV(
        LinearSVC(dual=True, random_state=42), {"C": list(np.logspace(-2, 2, 5))}, cv=2
    )
    plain(lambda: grid.fit(x, y))
    assert (two.untuned, two.costs) == (0, [grid.best_params_["C"]])


def test_a_machine_that_did_not_converge_is_counted(cloud, monkeypatch):
    x, y, new, _ = cloud
    labels = np.stack([y == 0, y == 1], axis=1).astype(np.int64)
    assert probes.multi_label_probe(x, labels, new).unfinished == 0
    monkeypatch.setattr(probes, "MULTI_LABEL_ITERATIONS", 1)
    assert probes.multi_label_probe(x, labels, new).unfinished == 2


def test_few_shot_samples_are_the_held_out_folds_in_order():
    y = np.repeat([0, 1], [30, 13])
    predictions = probes.class_samples(y, 10, 3)
    assert len(predictions) == 3
    expected = [fold for _, fold in StratifiedKFold(5).split(y, y)]  # 43 / 10, rounded up
    for one, other in zip(predictions, expected, strict=False):
        np.testing.assert_array_equal(one, other)
    assert len(probes.class_samples(y, 10, 50)) == 5


@pytest.mark.parametrize("size", [43, 1])
def test_few_shot_samples_that_cannot_be_are_refused(size):
    with pytest.raises(UserError, match="folds of 43 training papers"):
        probes.class_samples(np.repeat([0, 1], [30, 13]), size, 3)


def test_few_shot_samples_of_labels_hold_so_many_of_each():
    rng = np.random.default_rng(1)
    y = (rng.random((200, 4)) < 0.3).astype(np.int64)
    y[:, 3] = 0
    y[[4, 9], 3] = 1
    predictions = probes.label_samples(y, 5, 3)
    assert len(predictions) == 3
    for sample in predictions:
        assert (y[sample].sum(0) >= [5, 5, 5, 2]).all()
        assert len(sample) <= 17
        assert {4, 9} <= set(sample)
    # As numpy's global generator, seeded with 42 + run, draws them.
    draw = np.random.RandomState(43)
    sizes = (5, 5, 5, 2)
    expected = {
        paper
        for label, size in enumerate(sizes)
        for paper in draw.choice(np.flatnonzero(y[:, label]), size, replace=False)
    }
    assert set(predictions[1]) == expected


def test_embeddings_that_are_all_the_same_tell_the_largest_class():
    x = np.full((30, 6), 0.3, dtype=np.float32)
    y = np.repeat([0, 1, 2], [5, 20, 5])
    assert set(probes.classification_probe(x, y, x[:4]).predictions) == {1}
    assert np.ptp(probes.regression_probe(x, np.arange(30.0), x).predictions) == 0
