import gzip
from typing import ClassVar

import numpy as np
import pytest

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.judged import Judged, evaluate, paper_file
from sciembed_train.evaluation.systems import RandomOrder
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.benchmark_folders import JUDGED_GRADES, write_judged
from tests.helpers.places import places


@pytest.fixture
def folder(tmp_path):
    return write_judged(tmp_path / "relish")


class ByName(RandomOrder):
    """Candidates in a fixed order, some of them equally near; remembers what it was asked."""

    near: ClassVar = {"T e": 0.0, "T a": 1.0, "T c": 1.0, "T d": 2.0}

    def distances(self, search):
        self.titles = [title for title, _ in search.texts]
        for at, query in enumerate(search.queries):
            pool = [self.titles[p] for p in search.papers[search.pool(at)]]
            assert self.titles[query] not in pool
            yield np.array([self.near.get(title, 3.0) for title in pool], np.float32)


def scored(folder, name="relish", system=None):
    return evaluate(
        Judged.open(name, folder), system or ByName(), PaperFile(paper_file(name, folder))
    )


def test_every_query_is_scored_over_its_own_pool_and_splits_are_apart(folder):
    found = scored(folder)
    order = "eacdb"  # a and c are equally near
    want = {}
    for query, row in JUDGED_GRADES.items():
        grades = dict(row)
        ranked = [p for p in (*order, "q1") if p in grades]
        far = [ByName.near.get(f"T {p}", 3.0) for p in ranked]
        want[query] = metrics.graded([grades[p] for p in ranked], 2, places(far))
    assert found.per_query == want
    for name in want["q1"]:
        tests = [want[q][name] for q in ("q1", "q3", "q4")]
        assert found.metrics[f"relish/{name}"] == pytest.approx(sum(tests) / 3)
        assert found.metrics[f"relish_dev/{name}"] == want["q2"][name]
    # q1: e, a and c in either order, d, b of which a and d have grade 2.
    assert found.per_query["q1"]["map_grade2"] == pytest.approx(((1 / 2 + 1 / 3) / 2 + 2 / 4) / 2)
    assert found.settings["queries_tied"] > 0
    assert found.settings["threshold"] == 2
    assert found.settings["queries_without_relevant"] == 1
    assert "1 queries have no relevant candidate; they score 0." in found.notes


def test_the_other_collections_take_grade_one_as_relevant(tmp_path):
    binary = {q: [(p, min(g, 1)) for p, g in row] for q, row in JUDGED_GRADES.items()}
    for name in ("treccovid", "scidcite", "scidcocite", "scidcoread", "scidcoview"):
        folder = write_judged(tmp_path / name, name, binary)
        found = scored(folder, name)
        assert found.settings["threshold"] == 1
        assert found.per_query["q1"]["map_grade1"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
        assert {key.split("/")[0] for key in found.metrics} == {name, f"{name}_dev"}


def test_files_may_be_compressed(folder):
    want = scored(folder)
    for name in ("test-pid2anns-relish.json", "abstracts-relish.jsonl"):
        plain = folder / name
        (folder / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert scored(folder).per_query == want.per_query


def test_whatever_is_left_out_is_counted_and_told(tmp_path):
    grades = {
        "q1": [*JUDGED_GRADES["q1"], ("q1", 2), ("a", 2)],  # itself, and a candidate again
        "q2": [],
        "q3": [("e", 1)],
        "q4": JUDGED_GRADES["q4"],
        "stray": JUDGED_GRADES["q1"],
    }
    splits = {"dev": ["q2", "unjudged"], "test": ["q1", "q3", "q4"]}
    folder = write_judged(tmp_path / "odd", grades=grades, splits=splits, lost=("q4", "e", "d"))
    system = ByName()
    found = scored(folder, system=system)
    assert found.per_query == {"q1": metrics.graded([2, 1, 0], 2, places([0, 0, 2]))}
    want = {
        "queries": 1,
        "queries_dev": 0,
        "queries_in_no_split": 1,
        "queries_without_candidates": 1,
        "queries_without_judgements": 1,
        "queries_without_their_text": 1,
        "queries_without_candidates_texts": 1,
        "candidates_without_their_text": 2,
        "own_pool_left_out": 1,
        "candidates_twice": 1,
        "papers_with_empty_text": 0,
    }
    assert {key: found.settings[key] for key in want} == want
    told = " ".join(found.notes)
    for text in (
        "1 judged queries are in no split",
        "1 queries have no candidate: left out",
        "1 queries of the splits have no judgements",
        "1 queries are not among the papers",
        "1 queries have no candidate among the papers",
        "2 candidates are not among the papers",
        "own pool: query q1",
        "1 candidates are in a pool twice",
    ):
        assert text in told
    assert "T unused" not in system.titles
    assert not any(key.startswith("relish_dev") for key in found.metrics)


def test_papers_without_text_are_told(folder):
    data = Judged.open("relish", folder)
    papers = [Paper(p, "" if p == "a" else p, "") for p in ("q1", "q2", "q3", "q4", *"abcde")]
    found = evaluate(data, RandomOrder(), papers)
    assert found.settings["papers_with_empty_text"] == 1
    assert any("1 papers have no text" in note for note in found.notes)


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ('{"q1": {"cands": ["a", "a"], "relevance_adju": [1, 2]}}', "grades a as 1 and as 2"),
        ('{"q1": {"cands": ["a"], "relevance_adju": [1, 2]}}', "not as many grades"),
        ('{"q1": {"cands": ["a"], "relevance_adju": ["2"]}}', "grades a as '2'"),
        ('{"q1": {"cands": ["a"], "relevance_adju": [-1]}}', "grades a as -1"),
        ('{"q1": {"cands": ["a"]}}', "there is no 'relevance_adju'"),
        ('{"q1": {"cands": []', "not JSON"),
        ('[{"cands": [], "relevance_adju": []}]', "belongs to no query"),
        (
            '{"q1": {"cands": [], "relevance_adju": []}, "q1": {"cands": []}}',
            "q1 is given twice",
        ),
        ('{"q1": {"cands": [], "relevance_adju": []}}', "no query of `test`"),
    ],
)
def test_malformed_judgements_are_refused(folder, pools, message):
    (folder / "test-pid2anns-relish.json").write_text(pools)
    with pytest.raises(UserError, match=message):
        Judged.open("relish", folder)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ('{"dev": ["q2"]}', "expected {'dev': "),
        ('{"test": {"q1": 1}}', "expected {'dev': "),
        ("[]", "expected {'dev': "),
        ('{"dev": ["q1"], "test": ["q1"]}', r"1 queries are in dev and in test \(q1"),
        ("{", "not valid JSON"),
    ],
)
def test_malformed_splits_are_refused(folder, splits, message):
    (folder / "relish-evaluation_splits.json").write_text(splits)
    with pytest.raises(UserError, match=message):
        Judged.open("relish", folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"holds no test-pid2anns-treccovid\.json"):
        Judged.open("treccovid", folder)
    (folder / "abstracts-relish.jsonl").unlink()
    with pytest.raises(UserError, match=r"no abstracts-relish\.jsonl .*--papers"):
        paper_file("relish", folder)
    with pytest.raises(UserError, match="whole file with --papers"):
        evaluate(Judged.open("relish", folder), RandomOrder(), [])
    (folder / "relish-evaluation_splits.json").unlink()
    with pytest.raises(UserError, match=r"relish-evaluation_splits\.json: cannot be read"):
        Judged.open("relish", folder)
