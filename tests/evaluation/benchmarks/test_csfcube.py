import json
from typing import ClassVar

import numpy as np
import pytest

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.csfcube import (
    CsfCube,
    asking_sentences,
    evaluate,
    read_labels,
    read_rankings,
    score,
)
from sciembed_train.evaluation.systems import RandomOrder
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.benchmark_folders import CSFCUBE_GRADES, write_csfcube
from tests.helpers.places import places


@pytest.fixture
def folder(tmp_path):
    return write_csfcube(tmp_path / "cube")


def in_order(papers):
    return [(paper, float(rank)) for rank, paper in enumerate(papers)]


def in_grade_order(data, worst_first=False):
    sign = 1 if worst_first else -1
    return {
        facet: {
            q: in_order(sorted(pool, key=lambda p: (sign * pool[p], p)))
            for q, pool in one.pools.items()
        }
        for facet, one in data.facets.items()
    }


def test_the_best_order_scores_one_and_the_worst_less(folder):
    data = CsfCube.open(folder)
    best = score(data, in_grade_order(data)).metrics
    worst = score(data, in_grade_order(data, worst_first=True)).metrics
    for facet in ("background", "method", "aggregated", "background_dev", "method_dev"):
        assert best[f"{facet}/map_grade2"] == 1.0
        assert best[f"{facet}/ndcg_pct20_jk"] == 1.0
        assert worst[f"{facet}/map_grade2"] < 0.5


def test_two_folds_weigh_alike_and_dev_is_fold_one_alone(folder):
    data = CsfCube.open(folder)
    rankings = {
        f: {q: in_order(sorted(p)) for q, p in one.pools.items()} for f, one in data.facets.items()
    }
    found = score(data, rankings)
    name = "map_grade2"
    one = {key: row[name] for key, row in found.per_query.items()}
    q1, q2, q3 = (one[f"background/q{i}"] for i in (1, 2, 3))
    assert found.metrics[f"background/{name}"] == pytest.approx(((q1 + q2) / 2 + q3) / 2)
    assert found.metrics[f"background_dev/{name}"] == pytest.approx(q3)
    both = [q1, q2, one["method/q2"]], [q3, one["method/q3"]]
    want = (sum(both[0]) / 3 + sum(both[1]) / 2) / 2
    assert found.metrics[f"aggregated/{name}"] == pytest.approx(want)


def test_a_query_never_meets_itself(folder):
    data = CsfCube.open(folder)
    assert "q1" not in data.facets["background"].pools["q1"]
    rankings = in_grade_order(data)
    alone = score(data, rankings)
    rankings["background"]["q1"] = [("q1", -1.0), *rankings["background"]["q1"]]
    assert score(data, rankings).per_query == alone.per_query
    assert "q1 (background)" in alone.notes[0]

    seen = []

    class Watch(RandomOrder):
        def distances(self, search):
            seen.extend(search.texts)
            for at, query in enumerate(search.queries):
                row = np.ones(search.count, np.float32)
                row[query] = 0  # nearest to itself, as every model has it
                yield row[search.pool(at)]

    papers = [Paper(p, p, "") for p in ("q1", "q2", "q3", *"abcdef", "unused")]
    found = evaluate(data, Watch(), papers, ties="paper_id")
    # All others at one distance.
    grades = [CSFCUBE_GRADES["q1"][p] for p in "abcde"]
    want = metrics.graded(grades, 2)
    assert found.per_query["background/q1"] == pytest.approx(want, abs=1e-12)
    found = evaluate(data, Watch(), papers)
    want = metrics.graded(grades, 2, places([1] * len(grades)))
    assert found.per_query["background/q1"] == pytest.approx(want, abs=1e-12)
    assert found.settings["queries_tied"] == len(found.per_query)
    assert ("unused", "") not in seen


def test_the_sentences_of_a_facet_ask(folder, tmp_path):
    """Of q1 and q3 labels are there, in either spelling; blank sentences count for nothing."""
    rows = [
        {"paper_id": "q1", "abstract": ["A.", " ", "B.", "C.", "D."],
         "pred_labels": ["objective_label", "method_label", "method_label", "background_label",
                         "result_label"]},
        {"paper_id": "q2", "abstract": ["A.", "B."]},
        {"paper_id": "q3", "abstract": ["A.", "", "B."],
         "sentence_labels": ["method", "method", "other"]},
        *({"paper_id": p, "abstract": "No list.", "pred_labels": ["x"]} for p in "abcdef"),
    ]  # fmt: skip
    file = tmp_path / "papers.jsonl"
    file.write_text("\n".join(json.dumps({"title": "T", **row}) for row in rows))
    data, papers = CsfCube.open(folder), PaperFile(file)
    labels = read_labels(papers, data)
    assert labels.keys() == {"q1", "q3"}

    class Watch(RandomOrder):
        by_sentence: ClassVar[bool] = True

        def distances(self, search):
            self.asked = search.query_sentences
            return super().distances(search)

    system = Watch()
    found = evaluate(data, system, papers, labels)
    # background of q1, q2, q3, method of q2, q3
    assert system.asked == [[0, 2], None, None, None, [0]]
    assert found.settings["queries_without_a_sentence_of_the_facet"] == 3
    assert any(n.startswith("3 queries have no sentence labelled") for n in found.notes)
    assert asking_sentences("result", labels["q1"]) == [3]

    class Whole(Watch):
        by_sentence: ClassVar[bool] = False

        def distances(self, search):
            assert search.query_sentences is None
            return RandomOrder.distances(self, search)

    assert "asking" not in evaluate(data, Whole(), papers, labels).settings


def test_for_facets_the_sentences_of_candidates_have_labels_too(folder, tmp_path):
    rows = [
        {"paper_id": p, "abstract": ["A.", " ", "B."], "pred_labels": [label, "method", "method"]}
        for p, label in (("q1", "objective"), ("a", "method_label"), ("q2", "background"))
    ]
    rows += [{"paper_id": p, "abstract": "No list."} for p in ("q3", *"bcdef")]
    file = tmp_path / "papers.jsonl"
    file.write_text("\n".join(json.dumps({"title": "T", **row}) for row in rows))
    data, papers = CsfCube.open(folder), PaperFile(file)
    assert read_labels(papers, data).keys() == {"q1", "q2"}
    labels = read_labels(papers, data, candidates=True)
    assert labels.keys() == {"q1", "q2", "a"}

    class Watch(RandomOrder):
        by_sentence: ClassVar[bool] = True

        def distances(self, search):
            row = {paper: row for row, paper in enumerate(search.paper_ids)}
            of = search.facet_sentences
            self.seen = [(of(at, row["q1"]), of(at, row["a"]), of(at, row["b"])) for at in (0, 4)]
            return super().distances(search)

    system = Watch()
    evaluate(data, system, papers, labels)
    assert system.seen == [([0], [], None), ([1], [0, 1], None)]  # background, method


def test_labels_that_fit_no_sentences_are_refused(folder, tmp_path):
    data = CsfCube.open(folder)
    for abstract, labels in ((["A.", "B."], ["method"]), ("A. B.", ["method", "method"])):
        file = tmp_path / "papers.jsonl"
        row = {"paper_id": "q1", "title": "", "abstract": abstract, "pred_labels": labels}
        file.write_text(json.dumps(row))
        with pytest.raises(UserError, match=r"papers\.jsonl:1: `pred_labels` must be a list"):
            read_labels(PaperFile(file), data)


def write(path, ranking):
    path.write_text(json.dumps(ranking))
    return path


def test_ranking_files_with_distances_similarities_or_none(folder, tmp_path):
    data = CsfCube.open(folder, "method")
    rows = in_grade_order(data)["method"]
    plain = write(tmp_path / "method.json", {q: [p for p, _ in row] for q, row in rows.items()})
    rising = write(
        tmp_path / "x-method-ranked.json",
        {q: [[p, i] for p, i in row] for q, row in rows.items()},
    )
    falling = write(tmp_path / "y.json", {q: [[p, -i] for p, i in row] for q, row in rows.items()})
    assert read_rankings(plain, data) == {"method": rows}
    assert read_rankings(rising, data) == {"method": rows}
    assert read_rankings(falling, data, "method") == {"method": rows}


def test_equal_scores_of_a_file_are_ties(folder, tmp_path):
    data = CsfCube.open(folder, "method")
    best = in_grade_order(data)["method"]
    flat = {q: [[p, 1.0] for p, _ in row] for q, row in best.items()}
    rankings = read_rankings(write(tmp_path / "method.json", flat), data)
    found = score(data, rankings)
    assert found.settings["queries_tied"] == len(found.per_query)
    by_id = score(data, {"method": {q: in_order(sorted(p for p, _ in r)) for q, r in best.items()}})
    assert score(data, rankings, "paper_id").per_query == by_id.per_query


def test_a_folder_of_rankings_is_read_by_file_name(folder, tmp_path):
    data = CsfCube.open(folder)
    rankings = in_grade_order(data)
    place = tmp_path / "ranked"
    place.mkdir()
    for facet, rows in rankings.items():
        plain = {query: [paper for paper, _ in row] for query, row in rows.items()}
        write(place / f"model-{facet}-ranked.json", plain)
    assert read_rankings(place, data) == rankings


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: rows.pop("q2"), "has no query q2"),
        (lambda rows: rows["q2"].pop(), "1 candidates missing"),
        (lambda rows: rows["q2"].append(("zz", 9.0)), "1 candidates that were not judged"),
        (lambda rows: rows["q2"].append(("a", 9.0)), "1 candidates twice"),
    ],
)
def test_a_ranking_that_does_not_match_the_pool_is_refused(folder, change, found):
    data = CsfCube.open(folder)
    rankings = in_grade_order(data)
    change(rankings["method"])
    with pytest.raises(UserError, match=found):
        score(data, rankings)


def test_unreadable_rankings_are_refused(folder, tmp_path):
    data = CsfCube.open(folder)
    cases = {
        "nameless.json": ("{}", "does not say which facet"),
        "method-a.json": ("{", "not valid JSON"),
        "method-b.json": ("[]", "expected an object"),
        "method-e.json": ('{"q2": [["a", 1], ["b", NaN], ["c", 2]]}', "score of b is not a number"),
        "method-c.json": ('{"q2": [["a", 1], ["b", 3], ["c", 2]]}', "neither rise nor fall"),
        "method-d.json": ('{"q2": [["a", "x"]]}', "query q2"),
    }
    for name, (text, found) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=found):
            read_rankings(tmp_path / name, data)
    with pytest.raises(UserError, match="there is no such file or folder"):
        read_rankings(tmp_path / "none.json", data)
    with pytest.raises(UserError, match="files are named for facet method"):
        read_rankings(tmp_path, data)


def test_a_wrong_folder_facet_or_missing_text_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="give the CSFCube folder"):
        CsfCube.open(tmp_path)
    with pytest.raises(UserError, match=r"--facet result: .* has background, method"):
        CsfCube.open(folder, "result")
    with pytest.raises(UserError, match=r"9 of 9 papers .* are not among the papers"):
        evaluate(CsfCube.open(folder), RandomOrder(), [])
