import itertools
import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.mdcr import Mdcr, evaluate, paper_file
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.suite.entries import recognised
from sciembed_train.evaluation.systems import RandomOrder
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.mdcr_folder import MDCR_FIELDS, MDCR_LISTS, MDCR_PAPERS, write_mdcr
from tests.helpers.trec_reference import trec_measures

OURS = {"map": "map_grade1", "ndcg": "ndcg_log2", "recall_5": "recall5_grade1"}


class ByName(RandomOrder):
    """Candidates at distances by their titles, all at 0 where none are given."""

    near: dict = {}  # noqa: RUF012

    def distances(self, search):
        titles = [title for title, _ in search.texts]
        for at, query in enumerate(search.queries):
            pool = [titles[p] for p in search.papers[search.pool(at)]]
            assert titles[query] not in pool
            yield np.array([self.near.get(title, 0.0) for title in pool], np.float32)


class Far(ByName):
    near = {f"T {p}": float(int(p) * 7 % 5) for p in MDCR_PAPERS}  # noqa: RUF012


def scored(folder, system=None, split="test", **options):
    papers = PaperFile(paper_file(folder, split))
    return evaluate(Mdcr.open(folder, split), system or Far(), papers, **options)


def judged(lists):
    """1 for ``true``, which the original visits last, else 0."""
    grades = {}
    for name in MDCR_LISTS:
        for paper in lists.get(name, []):
            grades[paper] = 1 if name == "true" else 0
    return grades


def test_scores_are_those_of_the_definition(tmp_path):
    found = scored(write_mdcr(tmp_path / "m"))
    rounded = {metric: [] for metric in OURS}
    for name, queries in MDCR_FIELDS.items():
        rows = []
        for query, lists in queries.items():
            grades = judged(lists)
            rows.append(trec_measures({p: -Far.near[f"T {p}"] for p in grades}, grades))
            for metric, value in rows[-1].items():
                row = found.per_query[f"{name}/{query}"]
                assert row[f"original_{metric}"] == pytest.approx(value, abs=1e-12)
        for metric in OURS:
            mean = sum(row[metric] for row in rows) / len(rows)
            rounded[metric].append(round(100 * mean, 4))
            assert found.metrics[f"{name}/original_{metric}"] == pytest.approx(mean)
    for metric, percents in rounded.items():
        average = round(sum(percents) / len(percents), 4) / 100
        assert found.metrics[f"average/original_{metric}"] == pytest.approx(average, abs=1e-12)
    # A cited paper that BM25 finds too is relevant.
    assert found.settings["candidates_cited_and_in_another_list"] == 1
    assert found.settings["queries"] == 3
    assert found.query_texts["Art/2"] == "T 2"
    assert "The average is over 2 fields; the original's is over 19." in found.notes


def test_the_average_is_over_fields_and_not_over_queries(tmp_path):
    found = scored(write_mdcr(tmp_path / "m"))
    for name in OURS.values():
        art = (found.per_query["Art/1"][name] + found.per_query["Art/2"][name]) / 2
        assert found.metrics[f"Art/{name}"] == pytest.approx(art)
        other = found.per_query["Computer Science/1"][name]
        assert found.metrics[f"average/{name}"] == pytest.approx((art + other) / 2)


def test_candidates_at_one_distance_score_as_chance(tmp_path):
    folder = write_mdcr(tmp_path / "m")
    found = scored(folder, ByName())
    for name, queries in MDCR_FIELDS.items():
        for query, lists in queries.items():
            grades = judged(lists)
            orders = [
                trec_measures({p: -at for at, p in enumerate(order)}, grades)
                for order in itertools.permutations(grades)
            ]
            by_id = trec_measures(dict.fromkeys(grades, 0.0), grades)
            for metric, ours in OURS.items():
                row = found.per_query[f"{name}/{query}"]
                assert row[ours] == pytest.approx(np.mean([one[metric] for one in orders]))
                assert row[f"original_{metric}"] == pytest.approx(by_id[metric])
    assert found.settings["queries_tied"] == 3
    as_trec_eval = scored(folder, ByName(), ties="trec_eval")
    for row in as_trec_eval.per_query.values():
        assert all(row[ours] == row[f"original_{metric}"] for metric, ours in OURS.items())


def test_recall_at_five_is_cut_at_five(tmp_path):
    lists = {"Art": {"1": {"true": ["16", "17"], "bm25": ["10", "11", "12", "13", "14", "15"]}}}
    system = ByName()
    system.near = {f"T {p}": float(p) for p in MDCR_PAPERS} | {"T 16": 0.0}
    found = scored(write_mdcr(tmp_path / "m", lists), system)
    assert found.per_query["Art/1"]["recall5_grade1"] == 0.5


def test_lost_texts_are_counted(tmp_path):
    folder = write_mdcr(tmp_path / "m", papers=[p for p in MDCR_PAPERS if p not in ("2", "10")])
    found = scored(folder)
    assert list(found.per_query) == ["Art/1", "Computer Science/1"]
    grades = judged(MDCR_FIELDS["Art"]["1"])
    want = trec_measures({p: -Far.near[f"T {p}"] for p in grades if p != "10"}, grades)
    assert found.per_query["Art/1"]["original_map"] == pytest.approx(want["map"])
    assert found.settings["queries_without_their_text"] == 1
    assert found.settings["candidates_without_their_text"] == 1


@pytest.mark.parametrize("model", ["random", "bm25"])
def test_baselines_run_by_name_on_both_splits(tmp_path, model):
    folder = write_mdcr(tmp_path / "m")
    art = {"Art": MDCR_FIELDS["Art"]}
    write_mdcr(folder, art, split="val")
    found = {
        split: run_benchmark(EvaluateSettings("mdcr", folder, model, quiet=True, split=split))
        for split in ("test", "dev")
    }
    assert len(found["test"].per_query) == 3
    assert len(found["dev"].per_query) == 2
    assert 0 < found["test"]["average/map_grade1"] <= 1
    assert recognised(folder) == ["mdcr"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"mdcr_test\.json: expected \{field: "),
        ({"Art": []}, "field 'Art': expected"),
        ({"Art": {}}, "holds no query"),
        ({"Art": {"1": []}}, "field 'Art', query 1: expected"),
        ({"Art": {"1": {"true": ["2"]}}}, "bm25, graph, .* is missing, or is none of them"),
        (
            {"Art": {"1": {name: [] for name in (*MDCR_LISTS, "other")}}},
            "query 1: .*; other is missing, or is none",
        ),
        (
            {"Art": {"1": {name: [] for name in MDCR_LISTS} | {"true": [None]}}},
            "field 'Art', query 1, 'true': expected a list of ids",
        ),
    ],
)
def test_malformed_judgements_are_refused(tmp_path, content, message):
    (tmp_path / "mdcr_test.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Mdcr.open(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"mdcr_val\.json: cannot be read"):
        Mdcr.open(tmp_path, "dev")
    with pytest.raises(UserError, match=r"holds no mdcr_test_data\.jsonl .*--papers"):
        paper_file(tmp_path)
    folder = write_mdcr(tmp_path / "m", papers=["99"])
    with pytest.raises(UserError, match=r"No query is among the papers .*--papers"):
        scored(folder)
