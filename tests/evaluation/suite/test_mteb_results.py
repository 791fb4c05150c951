import json

import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.evaluation.suite.mteb_results import read_mteb_results
from tests.helpers.small_suite import write_suite


def write_result(path, task, scores, **meta):
    path.mkdir(parents=True, exist_ok=True)
    content = {
        "dataset_revision": "abc",
        "task_name": task,
        "mteb_version": "2.26.24",
        "scores": {
            split: [
                {"hf_subset": subset, "languages": ["eng-Latn"], "main_score": value}
                for subset, value in row.items()
            ]
            for split, row in scores.items()
        },
    }
    (path / f"{task}.json").write_text(json.dumps(content))
    if meta:
        (path / "model_meta.json").write_text(json.dumps(meta))


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "mteb" / "results"
    write_result(folder / "org__one" / "r1", "SciFact", {"test": {"default": 0.25}})
    write_result(
        folder / "org__one" / "r1", "Two", {"test": {"a": 0.5, "b": 0.25}, "dev": {"a": 0}}
    )
    write_result(folder / "any" / "r", "SciFact", {"test": {"default": 0.5}}, name="org/other")
    (folder / "org__one" / "r1" / "notes.json").write_text("[1]")
    return folder


def test_main_scores_are_means_over_splits_and_subsets(results):
    expected = {
        ("SciFact", "org/one"): 0.25,
        ("Two", "org/one"): 0.25,
        ("SciFact", "org/other"): 0.5,
    }
    assert read_mteb_results(results) == expected
    assert read_mteb_results(results.parent) == expected
    assert read_mteb_results(results / "org__one" / "r1") == {
        pair: score for pair, score in expected.items() if pair[1] == "org/one"
    }


def test_revisions_and_experiments_have_names_of_their_own(results):
    write_result(results / "org__one" / "r2", "SciFact", {"test": {"default": 0.75}})
    more = results / "org__one" / "r2" / "experiments" / "fp16"
    write_result(more, "SciFact", {"test": {"default": 1}})
    found = read_mteb_results(results)
    assert {model: score for (task, model), score in found.items() if task == "SciFact"} == {
        "org/one@r1": 0.25,
        "org/one@r2": 0.75,
        "org/one@r2/fp16": 1,
        "org/other": 0.5,
    }


def test_what_is_no_result_is_told(results, tmp_path):
    with pytest.raises(UserError, match=r"there is no such folder \(--mteb_results\)"):
        read_mteb_results(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no result of mteb"):
        read_mteb_results(tmp_path / "empty")
    for scores in ({"test": {"default": None}}, {}):
        write_result(results / "bad" / "r", "Bad", scores)
        with pytest.raises(UserError, match=r"Bad\.json: expected \{scores: "):
            read_mteb_results(results)
    write_result(results / "bad" / "r", "Bad", {"test": {"default": float("nan")}})
    with pytest.raises(UserError, match=r"Bad\.json: its main score is nan"):
        read_mteb_results(results)
    (results / "bad" / "r" / "Bad.json").write_text("{")
    with pytest.raises(UserError, match=r"Bad\.json: is not JSON"):
        read_mteb_results(results)


def test_they_stand_in_the_table_of_a_suite(results, tmp_path):
    suite = write_suite(tmp_path / "suite")
    write_result(results / "random" / "r", "SciFact", {"test": {"default": 0.125}})
    found = st.evaluate_suite(
        suite, ["bm25", "random"], tmp_path / "to", only=["review"], mteb_results=results
    )
    content = found.as_dict()
    assert content["models"] == ["bm25", "random", "org/other", "org/one"]
    rows = {(row["benchmark"], row["model"]): row["value"] for row in content["rows"]}
    assert rows["mteb/SciFact", "random"] == 0.125  # in the column of the model of its name
    assert rows["mteb/Two", "org/one"] == 0.25
    assert ("mteb/SciFact", "bm25") not in rows
    assert "mteb/SciFact" in found.text()
    assert "not measured here" in found.text()
    for name in ("table.md", "table.csv", "report.html"):
        assert "mteb/SciFact" in (tmp_path / "to" / name).read_text()
    assert (
        "| mteb/SciFact | `main_score` |  |  | 0.1250 | **0.5000** | 0.2500 |"
        in (tmp_path / "to" / "table.md").read_text()
    )
    alone = st.evaluate_suite(suite, [], tmp_path / "alone", mteb_results=results)
    assert len(alone.rows) == 2


def test_what_mteb_writes_is_read(tmp_path):
    mteb = pytest.importorskip("mteb", reason="mteb is not installed")
    result = mteb.TaskResult(
        dataset_revision="abc",
        task_name="Ours",
        mteb_version=mteb.__version__,
        scores={
            "test": [{"hf_subset": "default", "languages": ["eng-Latn"], "main_score": 0.123456}]
        },
        evaluation_time=1.0,
    )
    cache = mteb.ResultCache(tmp_path)
    cache.save_to_cache(result, "org/model", "main")
    assert read_mteb_results(tmp_path) == {("Ours", "org/model"): pytest.approx(result.get_score())}
