import numpy as np
import pytest
from sklearn.metrics import f1_score

from sciembed_train.errors import UserError
from sciembed_train.evaluation import probes
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval import averages, evaluate
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import Task
from tests.helpers.small_scirepeval import (
    Known,
    documents,
    judged,
    labelled,
    number,
    write_lines,
    write_tasks,
)


def by_number(record, format):
    """Tells the number of a paper, and nothing of the format."""
    n = number(record) / 24
    return [n, n * n, n % 0.25, 1.0]


@pytest.fixture
def folder(tmp_path):
    """A task of each type; the searches' queries have the ids of papers."""
    searches = [
        {"doc_id": f"p{q}", "query": f"Words {q}", "candidates": documents([f"p{q}", f"p{q + 8}"])}
        for q in range(4)
    ]
    write_tasks(
        tmp_path,
        labelled(
            tmp_path,
            "classes",
            lambda i: i // 8 % 2,
            metrics=["f1", "f1_macro"],
            few_shot=[{"sample_size": 4, "iterations": 50}],
        ),
        labelled(
            tmp_path,
            "labels",
            lambda i: [int(i % 2 == 0), int(i < 9)],
            multi_label=True,
            metrics=["f1_macro"],
        ),
        labelled(
            tmp_path,
            "numbers",
            lambda i: (i * 7 % 24) / 2,
            kind="regression",
            metrics=["kendalltau", "mse"],
        ),
        judged(
            tmp_path,
            "near",
            {"p3": {"p4": 1, "p9": 0}, "p8": {"p1": 1, "p7": 0}},
            documents(),
            metrics=["map", "ndcg"],
        ),
        judged(
            tmp_path,
            "search",
            {f"p{q}": {f"p{q}": 1, f"p{q + 8}": 0} for q in range(4)},
            searches,
            kind="adhoc_search",
            metrics=["ndcg"],
        ),
    )
    return tmp_path


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
