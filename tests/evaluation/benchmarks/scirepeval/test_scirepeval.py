import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval import averages, evaluate
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import Task
from tests.helpers.small_scirepeval import (
    Known,
    by_number,
    labelled,
    number,
    write_tasks,
)


def test_every_type_of_task_is_scored(folder):
    known = Known(by_number)
    found = evaluate(folder, known)
    assert set(found.metrics) == {
        "classes/f1_binary",
        "classes/f1_macro",
        "classes/f1_binary_shot4",
        "classes/f1_macro_shot4",
        "labels/f1_macro",
        "numbers/kendall_tau_b",
        "numbers/mse",
        "near/map_grade1",
        "near/ndcg_log2",
        "search/ndcg_log2",
        *(f"average/{name}" for name in ("out_of_train", "out_of_train_without_scidocs")),
        *(f"average/{name}" for name in ("all_values", "all_tasks")),
    }
    assert found.metrics["near/map_grade1"] == pytest.approx((1 + 1 / 2) / 2)
    assert found.per_query["near/p8"]["map_grade1"] == 0.5
    assert found.settings["tasks"]["classes"]["shot4_runs"] == 4
    assert set(found.per_query) >= {f"classes/shot4/run{run}" for run in range(4)}
    assert found.settings["queries"] == 6


def test_a_text_is_read_for_what_its_task_is_for(folder):
    known = Known(by_number)
    evaluate(folder, known)
    asked = {}
    for record, format in known.asked:
        asked.setdefault(format, []).append(record)
    assert set(asked) == {"classification", "regression", "proximity", "adhoc_query"}
    assert asked["adhoc_query"] == [(f"Words {q}",) for q in range(4)]
    # Of the papers near each other only those that are judged, and the searches' candidates.
    near = [("Title 1", "Abstract number 1."), ("Title 3", "Abstract number 3.")]
    assert [record for record in asked["proximity"][:6] if number(record) < 4] == near
    assert len(asked["proximity"]) == 6 + 8
    assert len(asked["classification"]) == 2 * 24  # of two files


def test_a_search_finds_by_the_vectors_of_both_formats(folder):
    def vector(record, format):
        return [number(record) + (0.2 if format == "adhoc_query" else 0.0)]

    assert evaluate(folder, Known(vector), ["search"]).metrics["search/ndcg_log2"] == 1.0

    def apart(record, format):
        return [number(record) + (8.0 if format == "adhoc_query" else 0.0)]

    found = evaluate(folder, Known(apart), ["search"])
    assert found.metrics["search/ndcg_log2"] == pytest.approx(1 / np.log2(3))


def test_tasks_on_the_same_file_share_their_vectors(tmp_path):
    first = labelled(tmp_path, "first", lambda i: i % 2, metrics=["f1_macro"])
    second = labelled(tmp_path, "second", lambda i: i % 3, metrics=["f1_macro"])
    second["data"]["meta"] = first["data"]["meta"]
    write_tasks(tmp_path, first, second)
    known = Known(by_number)
    evaluate(tmp_path, known)
    assert len(known.asked) == 24


def test_labels_are_checked_before_anything_is_embedded(folder):
    (folder / "search" / "test_qrel.jsonl").write_text('{"query_id": "q"}\n')
    known = Known(by_number)
    with pytest.raises(UserError, match=r"test_qrel\.jsonl:1: `cand_id`"):
        evaluate(folder, known)
    assert not known.asked


def task(name, kind, *metrics, in_train=False, reviewers=""):
    return Task(name, kind, "", "", reviewers, metrics, False, (), ("title",), in_train)


def test_averages_are_those_of_both_published_tables():
    scores = {
        task("Search", "adhoc_search", "ndcg", in_train=True): {"ndcg_log2": 0.8},
        task("MeSH", "classification", "f1_macro", in_train=True): {
            "f1_macro": 0.6,
            "f1_macro_shot9": 0.1,
        },
        task("SciDocs Cite", "proximity", "map", "ndcg"): {"map_grade1": 0.9, "ndcg_log2": 0.7},
        task("DRSM", "classification", "f1_macro"): {"f1_macro": 0.5},
        task("Tweets", "regression", "kendalltau", "mse"): {"kendall_tau_b": 0.3, "mse": 7.0},
        task("Match", "proximity", "P_5", reviewers="r"): {
            "hard_precision5_grade1": 0.2,
            "soft_precision5_grade1": 0.4,
        },
    }
    means, counts = averages(scores)
    out = (0.9 + 0.7 + 0.5 + 0.3 + 0.3) / 5
    expected = {
        "in_train": 0.7,
        "out_of_train": out,
        "weighted_7_20": (7 * 0.7 + 20 * out) / 27,
        "out_of_train_without_scidocs": (0.5 + 0.3 + 0.3) / 3,
        "scidocs": 0.8,
        "all_values": (0.8 + 0.6 + 0.9 + 0.7 + 0.5 + 0.3 + 0.3) / 7,
        "all_tasks": (0.8 + 0.6 + 0.8 + 0.5 + 0.3 + 0.3) / 6,
    }
    assert means == pytest.approx(expected)
    assert (counts["in_train"], counts["out_of_train"], counts["scidocs"]) == (2, 5, 2)


@pytest.mark.parametrize(
    ("in_train", "out_of_train", "average"),
    [
        (54.7, 72.0, 67.5),
        (55.6, 73.4, 68.8),
        (61.9, 73.8, 70.7),
        (56.3, 73.6, 69.1),
        (62.3, 74.1, 71.1),
    ],
)
def test_the_weights_give_the_published_averages_again(in_train, out_of_train, average):
    scores = {
        task("Search", "adhoc_search", "ndcg", in_train=True): {"ndcg_log2": in_train},
        task("DRSM", "classification", "f1_macro"): {"f1_macro": out_of_train},
    }
    assert averages(scores)[0]["weighted_7_20"] == pytest.approx(average, abs=0.1)
