"""Labels of papers: what is read, and what is refused."""

import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.label_files import read_labels
from tests.helpers.small_scirepeval import write_csv, write_lines


def test_classes_are_numbered_as_integers_where_they_are(tmp_path):
    write_csv(tmp_path / "train.csv", [("a", 10), ("b", 9)])
    write_csv(tmp_path / "test.csv", [("c", 11), ("a", 9)])
    found = read_labels(str(tmp_path), "classification", False)
    assert found.classes == ["9", "10", "11"]
    assert (found.train.ids, found.test.ids) == (["a", "b"], ["c", "a"])
    np.testing.assert_array_equal(found.train.values, [1, 0])
    np.testing.assert_array_equal(found.test.values, [2, 0])


@pytest.mark.parametrize("written", ["[1, 0, 1]", "[1 0 1]", "[1,\n 0, 1]"])
def test_labels_of_0_and_1_are_read_as_they_are_written(tmp_path, written):
    write_csv(tmp_path / "train.csv", [("a", written), ("b", "[0, 0, 0]")])
    write_csv(tmp_path / "test.csv", [("c", written)])
    found = read_labels(str(tmp_path), "classification", True)
    np.testing.assert_array_equal(found.train.values, [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(found.test.values, [[1, 0, 1]])


def test_labels_may_be_names(tmp_path):
    write_lines(tmp_path / "train.jsonl", [{"paper_id": 1, "label": ["Physics", "Art"]}])
    write_csv(tmp_path / "test.csv", [("c", json.dumps(["Law"])), ("d", "[]")])
    found = read_labels(str(tmp_path), "classification", True)
    assert found.classes == ["Art", "Law", "Physics"]
    np.testing.assert_array_equal(found.train.values, [[1, 0, 1]])
    np.testing.assert_array_equal(found.test.values, [[0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("kind", "multi_label", "label", "told"),
    [
        ("classification", False, "", "`label` is the text ''; expected text or an integer"),
        ("regression", False, "high", "`label` is the text 'high'; expected a finite number"),
        ("regression", False, "nan", "`label` is the text 'nan'; expected a finite number"),
        ("classification", True, "[2, 0]", "expected a list of 0 and 1"),
        ("classification", True, "Physics", "expected a list of 0 and 1"),
        ("classification", True, "[1, 0]", "as many entries as the first"),
    ],
)
def test_bad_labels_are_refused(tmp_path, kind, multi_label, label, told):
    good = "[1, 0, 0]" if multi_label else 1
    write_csv(tmp_path / "train.csv", [("a", good), ("b", label)])
    write_csv(tmp_path / "test.csv", [("c", good)])
    with pytest.raises(UserError, match=told):
        read_labels(str(tmp_path), kind, multi_label)


def test_a_missing_file_of_labels_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no such folder; it should hold train"):
        read_labels(str(tmp_path / "none"), "regression", False)
    write_csv(tmp_path / "train.csv", [("a", 1)])
    with pytest.raises(UserError, match="expected one file `test`"):
        read_labels(str(tmp_path), "regression", False)
    write_csv(tmp_path / "test.csv", [])
    with pytest.raises(UserError, match="holds no labelled paper"):
        read_labels(str(tmp_path), "regression", False)
