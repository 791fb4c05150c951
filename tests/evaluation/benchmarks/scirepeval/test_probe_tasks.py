"""Probes of labelled papers."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sciembed_train.errors import UserError
from sciembed_train.evaluation import probes
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval import evaluate
from tests.helpers.small_scirepeval import (
    Known,
    by_number,
    documents,
    labelled,
    write_lines,
    write_tasks,
)


def test_a_probe_has_the_vectors_of_its_own_labels(folder):
    found = evaluate(folder, Known(by_number), ["classes"])
    rows = np.array([by_number((f"Title {i}",), "") for i in range(24)], dtype=np.float32)
    y = np.arange(24) // 8 % 2
    told = probes.classification_probe(rows[:16], y[:16], rows[16:])
    assert found.metrics["classes/f1_macro"] == f1_score(y[16:], told.predictions, average="macro")
    runs = [
        probes.classification_probe(rows[few], y[few], rows[16:], grid=False).predictions
        for few in probes.class_samples(y[:16], 4, 50)
    ]
    values = [f1_score(y[16:], run, average="macro", zero_division=0) for run in runs]
    assert found.metrics["classes/f1_macro_shot4"] == pytest.approx(np.mean(values))


def test_the_grid_is_for_the_complete_run_alone(folder, monkeypatch):
    grids, tell = [], probes.classification_probe

    def spy(x, y, new, grid=True):
        grids.append((len(x), grid))
        return tell(x, y, new, grid)

    monkeypatch.setattr(probes, "classification_probe", spy)
    evaluate(folder, Known(by_number), ["classes"])
    assert grids == [(16, True), *[(4, False)] * 4]


def test_papers_without_a_text_are_told(folder):
    rows = [{**row, "title": ""} for row in documents(["p1"])]
    write_lines(folder / "numbers" / "meta.jsonl", [*documents(["p2", "p3", "p20"]), *rows])

    def vector(record, format):
        return [float(len(record))]

    found = evaluate(folder, Known(vector), ["numbers"])
    assert found.settings["tasks"]["numbers"]["labelled_without_text_left_out"] == 20
    assert found.settings["tasks"]["numbers"]["train"] == 3
    assert "numbers: Labelled papers without a text, left out: 20." in found.notes
    assert any("Probes with too few papers for a grid" in note for note in found.notes)


def test_labels_of_other_papers_are_refused(folder):
    write_lines(folder / "numbers" / "meta.jsonl", documents(["p2"]))
    with pytest.raises(UserError, match="no labelled paper of test has a text"):
        evaluate(folder, Known(by_number), ["numbers"])


def test_a_metric_of_one_class_needs_the_classes_0_and_1(tmp_path):
    write_tasks(tmp_path, labelled(tmp_path, "x", lambda i: "ab"[i % 2], metrics=["f1"]))
    with pytest.raises(UserError, match=r"needs the labels 0 and 1, and .* has a, b"):
        evaluate(tmp_path, Known(by_number))
