import json

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.labels import (
    is_here,
    of_neighbours,
    read_labelled,
    score,
)
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.distances import distance_rows
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark


def folder_of(folder, labels, field=None):
    folder.mkdir()
    rows = [
        {"paper_id": f"p{at:03}", "title": f"Paper {at}", "abstract": f"Of {label}."}
        | ({} if field is None else {field: label})
        for at, label in enumerate(labels)
    ]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if field is None:
        lines = [{"paper_id": f"p{at:03}", "label": label} for at, label in enumerate(labels)]
        (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_labels_are_of_a_file_or_of_a_field_of_the_papers(tmp_path):
    labels = [*"xy" * 20, "rare"]
    for at, field in enumerate((None, "label", "primary_category")):
        folder = folder_of(tmp_path / str(at), labels, field)
        assert is_here(folder, "labels")
        data = read_labelled(folder)
        assert data.names == ["x", "y"]
        assert data.labels.tolist() == [0, 1] * 20
        assert data.left_out["papers_of_rare_labels_left_out"] == 1
    assert not is_here(folder_of(tmp_path / "none", labels, "other"), "labels")
    with pytest.raises(UserError, match=r"has no labels\. Give a file `labels`"):
        read_labelled(tmp_path / "none")
    with pytest.raises(NoQueriesError, match="fewer than two labels have 5 papers"):
        read_labelled(folder_of(tmp_path / "few", "xxxxxxyy"))


def test_a_sample_depends_on_the_ids_and_the_seed(tmp_path):
    folder = folder_of(tmp_path / "c", "xy" * 40)
    some, other = (read_labelled(folder, sample=30, seed=seed) for seed in (0, 1))
    assert len(some.papers) == 30
    assert some.left_out["papers_not_drawn"] == 50
    assert [p.paper_id for p in some.papers] != [p.paper_id for p in other.papers]


def test_neighbours_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    labels = rng.integers(0, 2, 60)
    for own, row in enumerate(distance_rows(vectors, vectors)):
        others = np.arange(60) != own
        votes = KNeighborsClassifier(10).fit(vectors[others], labels[others])
        chances = votes.predict_proba(vectors[own : own + 1])[0]
        found = of_neighbours(row, labels, own)
        assert found["precision10"] == pytest.approx(chances[labels[own]])
        best = chances >= chances.max() - 1e-9
        assert found["knn10_accuracy"] == best[labels[own]] / best.sum()


def test_one_vector_for_everything_knows_the_largest_label_alone(tmp_path):
    data = read_labelled(folder_of(tmp_path / "c", "x" * 60 + "y" * 25 + "z" * 15))
    vectors = np.full((100, 4), 0.7, np.float32)
    found = score(data, distance_rows(vectors, vectors), vectors).metrics
    assert found["labels/knn10_accuracy"] == pytest.approx(0.6)
    assert found["labels/probe_accuracy"] == pytest.approx(0.6)
    assert found["labels/v_measure"] == 0
    share = (60 * 59 + 25 * 24 + 15 * 14) / 100 / 99
    assert found["labels/precision10"] == pytest.approx(share)


def test_vectors_that_say_the_label_score_one(tmp_path):
    data = read_labelled(folder_of(tmp_path / "c", "xyz" * 20))
    rng = np.random.default_rng(0)
    vectors = (np.eye(3)[data.labels] * 9 + rng.normal(size=(60, 3)) / 9).astype(np.float32)
    found = score(data, distance_rows(vectors, vectors), vectors)
    for name in ("knn10_accuracy", "precision10", "probe_accuracy", "probe_f1_macro", "v_measure"):
        assert found.metrics[f"labels/{name}"] == pytest.approx(1), name
    assert set(found.per_query["p000"]) == {"knn10_accuracy", "precision10", "probe_accuracy"}


def test_baselines_and_a_model_run(tmp_path, tiny_bert):
    folder = folder_of(tmp_path / "c", "xy" * 10)
    for model in ("bm25", "random", str(tiny_bert)):
        scores = run_benchmark(EvaluateSettings("labels", folder, model, quiet=True))
        assert ("labels/v_measure" in scores.metrics) == (model != "bm25")
        assert scores.settings["queries"] == 20
        assert scores.settings["largest_label"] == 0.5
