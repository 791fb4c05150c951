import itertools
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.benchmarks.scidocs import SciDocs, evaluate
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.suite.entries import recognised
from sciembed_train.evaluation.systems import Bm25
from tests.helpers.scidocs_folder import (
    SCIDOCS_PAPERS,
    SCIDOCS_POOLS,
    SCIDOCS_RANKINGS,
    write_scidocs,
)
from tests.helpers.trec_reference import trec_measures


@dataclass
class Fixed:
    """Vectors by title; remembers what they were read for."""

    rows: dict
    similarity: str = "euclidean"
    name: str = "fixed"
    notes: list = field(default_factory=list)
    read: dict = field(default_factory=dict)

    def describe(self):
        return {}

    def embed(self, records, format):
        self.read[format] = [record[0] for record in records.values()]
        return np.stack([self.rows[title] for title in self.read[format]]).astype(np.float32)


def random_rows(seed=0, width=4):
    rng = np.random.default_rng(seed)
    rows = {f"T {name}": rng.normal(size=width) for name in SCIDOCS_PAPERS}
    return rows | {
        f"T m{at:03}": rng.normal(size=width) + np.eye(3, width)[at % 3] for at in range(90)
    }


def scored(folder, source, split="test", **options):
    return evaluate(SciDocs.open(folder, split), source, folder, **options)


def test_rankings_are_those_of_the_definition(tmp_path):
    folder, rows = write_scidocs(tmp_path / "s"), random_rows()
    rows["T d"] = rows["T a"] + 1e-7  # at one distance when rounded to 5 decimals
    source = Fixed(rows)
    found = scored(folder, source)
    exact = {}
    for query, grades in SCIDOCS_POOLS.items():
        far = {
            p: float(np.linalg.norm(np.float32(rows[f"T {query}"]) - np.float32(rows[f"T {p}"])))
            for p in grades
        }
        rounded = {p: -round(distance, 5) for p, distance in far.items()}
        original = trec_measures(rounded, grades)
        exact[query] = trec_measures({p: -distance for p, distance in far.items()}, grades)
        for task in SCIDOCS_RANKINGS:
            row = found.per_query[f"{task}/{query}"]
            assert row["original_map"] == pytest.approx(original["map"], abs=1e-12)
            assert row["original_ndcg"] == pytest.approx(original["ndcg"], abs=1e-12)
            assert row["ndcg_log2"] == pytest.approx(exact[query]["ndcg"], abs=1e-12)
            assert row["map_grade1"] == pytest.approx(exact[query]["map"], abs=1e-12)
    for task in SCIDOCS_RANKINGS:
        want = np.mean([row["map"] for row in exact.values()])
        assert found.metrics[f"{task}/map_grade1"] == pytest.approx(want)
    assert found.metrics["average/map_grade1"] == pytest.approx(want)
    assert found.settings["queries"] == 12
    assert found.query_texts["cite/q2"] == "T q2"
    assert sorted(source.read["proximity"]) == sorted(f"T {name}" for name in SCIDOCS_PAPERS)


def test_the_original_orders_ties_by_id_and_rounds_where_the_standard_does_not(tmp_path):
    # a, relevant, is nearer than c by less than 5 decimals see; trec_eval puts c first.
    pools = {"q1": {"a": 1, "c": 0}}
    folder = write_scidocs(tmp_path / "s", pools, ("q1", "a", "c"), ("cite",), ())
    rows = {"T q1": np.zeros(2), "T a": np.array([0.1, 0]), "T c": np.array([0.100001, 0])}
    found = scored(folder, Fixed(rows))
    assert found.per_query["cite/q1"]["map_grade1"] == 1.0
    assert found.per_query["cite/q1"]["original_map"] == 0.5


def test_the_original_compares_unchanged_vectors(tmp_path):
    pools = {"q1": {"a": 1, "c": 0}}
    folder = write_scidocs(tmp_path / "s", pools, ("q1", "a", "c"), ("cite",), ())
    rows = {"T q1": np.array([1.0, 0]), "T a": np.array([9.0, 0]), "T c": np.array([1.0, 1.0])}
    found = scored(folder, Fixed(rows, "cosine"))
    assert found.per_query["cite/q1"]["map_grade1"] == 1.0
    assert found.per_query["cite/q1"]["original_map"] == 0.5


def test_one_vector_for_everything_scores_as_chance(tmp_path):
    folder = write_scidocs(tmp_path / "s")
    found = scored(folder, Fixed(dict.fromkeys(random_rows(), np.ones(4))))
    for query, grades in SCIDOCS_POOLS.items():
        orders = [
            trec_measures({p: -at for at, p in enumerate(order)}, grades)
            for order in itertools.permutations(grades)
        ]
        for ours, name in (("map_grade1", "map"), ("ndcg_log2", "ndcg")):
            chance = np.mean([row[name] for row in orders])
            assert found.per_query[f"cite/{query}"][ours] == pytest.approx(chance)
        by_id = trec_measures(dict.fromkeys(grades, 0.0), grades)
        assert found.per_query[f"cite/{query}"]["original_map"] == pytest.approx(by_id["map"])
    # One class for all of 24 papers, 8 of each class: its F1 is 2 * 8 / (24 + 8), the others' 0.
    assert found.metrics["mag/f1_macro"] == pytest.approx(0.5 / 3)
    ties = scored(folder, Fixed(dict.fromkeys(random_rows(), np.ones(4))), ties="trec_eval")
    for row in ties.per_query.values():
        assert row["map_grade1"] == row["original_map"]
    assert found.settings["queries_tied"] == 8


def test_classifications_learn_from_train_alone_and_predict_the_split(tmp_path):
    folder, rows = write_scidocs(tmp_path / "s"), random_rows(3)
    source = Fixed(rows)
    found = {split: scored(folder, source, split) for split in ("test", "dev")}
    x, y = [rows[f"T m{at:03}"] for at in range(60)], [at % 3 for at in range(60)]
    for split, numbers in (("test", range(66, 90)), ("dev", range(60, 66))):
        asked = [rows[f"T m{at:03}"] for at in numbers]
        (cost,) = found[split].settings["mag"]["costs"]
        probe = LinearSVC(loss="squared_hinge", C=cost, dual=True, random_state=42)
        predicted = probe.fit(np.float32(x).astype(float), y).predict(np.float32(asked))
        want = f1_score([at % 3 for at in numbers], predicted, average="macro")
        assert found[split].metrics["mag/f1_macro"] == pytest.approx(want)
    assert found["test"].settings["mag"]["train"] == 60
    assert found["dev"].settings["queries"] == 4
    assert "T m061" in source.read["classification"]


def test_the_average_is_of_all_values_that_are_there(tmp_path):
    found = scored(write_scidocs(tmp_path / "s"), Fixed(random_rows()))
    classes = [found.metrics[f"{task}/f1_macro"] for task in ("mag", "mesh")]
    for name, forms in (
        ("values", ("map_grade1", "ndcg_log2")),
        ("original_values", ("original_map", "original_ndcg")),
    ):
        ranked = [found.metrics[f"{task}/{form}"] for task in SCIDOCS_RANKINGS for form in forms]
        assert found.metrics[f"average/{name}"] == pytest.approx(np.mean(classes + ranked))
    assert found.metrics["average/f1_macro"] == pytest.approx(np.mean(classes))
    assert "The average is of 10 values; the original's is of 12" in found.notes[-1]
    some = scored(
        write_scidocs(tmp_path / "few", tasks=("cite",), classes=("mag",)), Fixed(random_rows())
    )
    assert {key.split("/")[0] for key in some.metrics} == {"mag", "cite", "average"}
    assert some.settings["averaged_values"] == 3
    assert "Not in the folder, and so not scored: mesh, coview, coread, cocite." in some.notes


def test_what_is_missing_is_treated_as_the_original_does(tmp_path):
    pools = SCIDOCS_POOLS | {
        "q2": {**SCIDOCS_POOLS["q2"], "q2": 1},
        "q4": {"a": 1},
        "q5": {"lost": 1},
    }
    there = [name for name in (*SCIDOCS_PAPERS, "q5") if name != "a"]
    folder = write_scidocs(tmp_path / "s", pools, there, ("cite",))
    texts = json.loads((folder / "paper_metadata_mag_mesh.json").read_text())
    del texts["m000"], texts["m070"]
    (folder / "paper_metadata_mag_mesh.json").write_text(json.dumps(texts))
    rows = random_rows() | {"T q5": np.zeros(4)}
    found = scored(folder, Fixed(rows))
    assert list(found.per_query) == ["cite/q1", "cite/q2", "cite/q3"]
    far = {p: -float(np.linalg.norm(rows["T q1"] - rows[f"T {p}"])) for p in "bcde"}
    want = trec_measures(far, SCIDOCS_POOLS["q1"])  # the relevant a is missed
    assert found.per_query["cite/q1"]["map_grade1"] == pytest.approx(want["map"])
    assert found.per_query["cite/q1"]["original_ndcg"] == pytest.approx(want["ndcg"])
    counts = {
        "queries_without_their_text": 1,
        "queries_without_candidates_texts": 1,
        "candidates_without_their_text": 2,
        "own_pool_left_out": 1,
        "queries_without_relevant": 1,
        "labelled_without_their_text": 4,
    }
    assert {key: found.settings[key] for key in counts} == counts
    told = " ".join(found.notes)
    for text in (
        "1 queries are not among the papers",
        "2 candidates are not among the papers: not ranked",
        "1 queries were in their own pool",
        "4 labelled papers are not among the papers: a vector of zeros",
    ):
        assert text in told


def test_a_baseline_without_vectors_ranks_alone(tmp_path):
    folder = write_scidocs(tmp_path / "s")
    found = scored(folder, Bm25())
    assert not any("f1_macro" in key for key in found.metrics)
    assert "2 classifications need vectors, and are not scored." in found.notes
    assert found.settings["averaged_values"] == 8
    alone = write_scidocs(tmp_path / "classes", tasks=())
    with pytest.raises(NoQueriesError, match="classifications alone"):
        scored(alone, Bm25())
    assert set(scored(alone, Fixed(random_rows())).metrics) == {
        "mag/f1_macro",
        "mesh/f1_macro",
        "average/f1_macro",
        "average/values",
        "average/original_values",
    }


@pytest.mark.parametrize("model", ["random", "bm25"])
def test_baselines_run_by_name(tmp_path, model):
    folder = write_scidocs(tmp_path / "s")
    texts = json.loads((folder / "paper_metadata_view_cite_read.json").read_text())
    texts["e"] |= {"title": None, "abstract": ""}
    (folder / "paper_metadata_view_cite_read.json").write_text(json.dumps(texts))
    found = run_benchmark(EvaluateSettings("scidocs", folder, model, quiet=True))
    assert 0 < found["average/map_grade1"] < 1
    assert len(found.per_query) == 12
    assert found.settings["papers_with_empty_text"] == 1
    assert recognised(folder) == ["scidocs"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("cite/test.qrel", "q1 0 a\n", r"test\.qrel:1: expected `query_id 0 paper_id grade`"),
        ("cite/test.qrel", "q1 0 a 1\nq1 0 a 0\n", r"test\.qrel:2: query q1 judges paper a again"),
        ("cite/test.qrel", "", r"test\.qrel: holds no line"),
        ("mag/test.csv", "paper,class_label\nm001,1\n", r"test\.csv:2: .*`pid`"),
        ("mag/train.csv", "pid,class_label\nm001,\n", r"train\.csv:2: .*`class_label`"),
        ("mag/train.csv", "pid,class_label\n", r"train\.csv: holds no row"),
        ("paper_metadata_mag_mesh.json", '{"m001": {', "not JSON"),
        ("paper_metadata_view_cite_read.json", '{"x": {"title": "t"}}', "has none of the 8 papers"),
    ],
)
def test_malformed_files_are_refused(tmp_path, file, text, message):
    folder = write_scidocs(tmp_path / "s")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        scored(folder, Fixed(random_rows()))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no task of SciDocs; expected coview/test\.qrel"):
        SciDocs.open(tmp_path)
    folder = write_scidocs(tmp_path / "s")
    (folder / "paper_metadata_mag_mesh.json").unlink()
    with pytest.raises(UserError, match=r"holds no paper_metadata_mag_mesh\.json"):
        scored(folder, Fixed(random_rows()))
    (folder / "mesh" / "train.csv").unlink()
    with pytest.raises(UserError, match=r"mesh: holds no train\.csv"):
        SciDocs.open(folder)
