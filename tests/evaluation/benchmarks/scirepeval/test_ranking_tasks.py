import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.ranking_tasks import (
    RankingScorer,
    ReviewerScorer,
)
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import read_tasks
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Vectors
from tests.helpers.small_scirepeval import judged, write_lines, write_tasks


def ranking(folder, pools, metrics=("map",)):
    write_tasks(folder, judged(folder, "task", pools, [], metrics=list(metrics)))
    return RankingScorer(read_tasks(folder)[0])


def vectors(**rows):
    return Vectors(rows, np.array(list(rows.values()), dtype=np.float32))


def test_candidates_are_ranked_by_distance(tmp_path):
    task = ranking(tmp_path, {"q": {"far": 1, "near": 0, "mid": 2}}, ["map", "ndcg", "P_1"])
    rows = vectors(q=[0, 0], near=[1, 0], mid=[0, 2], far=[3, 3], other=[0, 0])
    found = task.score(rows, rows, "euclidean")
    assert found.metrics["map_grade1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    gain = (2 / np.log2(3) + 1 / 2) / (2 + 1 / np.log2(3))
    assert found.metrics["ndcg_log2"] == pytest.approx(gain)
    assert found.metrics["precision1_grade1"] == 0.0
    assert found.per_query["q"] == found.metrics


def test_the_cosine_leaves_lengths_out(tmp_path):
    task = ranking(tmp_path, {"q": {"along": 1, "beside": 0}})
    rows = vectors(q=[1, 0], along=[9, 0], beside=[1, 1])
    assert task.score(rows, rows, "euclidean").metrics["map_grade1"] == 0.5
    assert task.score(rows, rows, "cosine").metrics["map_grade1"] == 1.0
    assert rows.rows.max() == 9  # as they were


@pytest.mark.parametrize("names", ["rising", "falling"])
def test_vectors_that_are_all_the_same_score_as_chance(tmp_path, names):
    """In the file the relevant candidate comes first, and by its id first or last."""
    order = range(10) if names == "rising" else range(9, -1, -1)
    pools = {f"q{q}": {f"c{q}_{i}": int(i == order[0]) for i in order} for q in range(600)}
    ids = [*pools, *(name for pool in pools.values() for name in pool)]
    rows = Vectors(ids, np.full((len(ids), 4), 0.7, dtype=np.float32))
    found = ranking(tmp_path, pools, ["map", "P_1"]).score(rows, rows, "euclidean")
    # The one relevant candidate is at each of ten ranks as often; 3 standard errors.
    chance = np.mean([1 / rank for rank in range(1, 11)])
    error = np.std([1 / rank for rank in range(1, 11)]) / np.sqrt(600)
    assert abs(found.metrics["map_grade1"] - chance) < 3 * error
    assert abs(found.metrics["precision1_grade1"] - 0.1) < 3 * np.sqrt(0.09 / 600)


def test_equal_distances_are_decided_alike_whatever_the_order_of_the_file(tmp_path):
    pool = {f"c{i}": i % 3 for i in range(12)}
    rows = Vectors(["q", *pool], np.ones((13, 3), dtype=np.float32))
    values = []
    for folder, names in (("a", pool), ("b", reversed(pool))):
        pools = {"q": {name: pool[name] for name in names}}
        task = ranking(tmp_path / folder, pools, ["ndcg"])
        values.append(task.score(rows, rows, "euclidean").metrics["ndcg_log2"])
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_what_has_no_text_is_counted(tmp_path):
    pools = {
        "q": {"a": 0, "b": 1, "gone": 1},
        "lost": {"a": 1},
        "bare": {"a": 0, "b": 0},
        "own": {"own": 1, "a": 1},
        "empty": {"gone": 1},
    }
    rows = vectors(q=[0], bare=[0], own=[0], empty=[0], a=[2], b=[1])
    found = ranking(tmp_path, pools).score(rows, rows, "euclidean")
    # b is first, the lost candidate never comes; the query in its own pool is no candidate.
    expected = {"q": 1 / 2, "bare": 0.0, "own": 1.0}
    assert {q: row["map_grade1"] for q, row in found.per_query.items()} == expected
    assert found.metrics["map_grade1"] == pytest.approx(0.5)
    assert found.settings["queries"] == 3
    assert found.settings["queries_left_out"] == 2
    assert found.settings["candidates_without_text_left_out"] == 2
    notes = " ".join(found.notes)
    assert "a relevant one counted as missed: 2." in notes
    assert "left out: 2." in notes
    assert "counted with 0: 1." in notes
    assert "removed from it: 1." in notes


def test_no_query_with_a_text_is_refused(tmp_path):
    task = ranking(tmp_path, {"q": {"a": 1}})
    with pytest.raises(UserError, match="task 'task': no query with a candidate has a text"):
        task.score(vectors(b=[1]), vectors(b=[1]), "euclidean")


def reviewing(folder, hard, soft, reviewers):
    entry = judged(folder, "match", {}, [], metrics=["P_1", "P_2"])
    for kind, pools in (("hard", hard), ("soft", soft)):
        rows = [(q, r, grade) for q, pool in pools.items() for r, grade in pool.items()]
        names = ("query_id", "cand_id", "score")
        path = folder / "match" / f"test_{kind}_qrel.jsonl"
        write_lines(path, [dict(zip(names, row, strict=True)) for row in rows])
    rows = [{"r_id": name, "papers": papers} for name, papers in reviewers.items()]
    write_lines(folder / "people" / "reviewer_metadata.jsonl", rows)
    entry["data"]["reviewers"] = "people"
    write_tasks(folder, entry)
    return ReviewerScorer(read_tasks(folder)[0])


def test_reviewers_are_ranked_by_their_three_nearest_papers(tmp_path):
    hard = {"q": {"one": 1, "many": 0, "even": 0, "none": 1}}
    soft = {"q": {"one": 1, "many": 1, "even": 0, "none": 1}}
    reviewers = {
        "one": ["r0", "r3"],  # mean cosine of r0 and r3
        "many": ["r1", "r1b", "r1c", "r3"],  # the three nearest alone count
        "even": ["r2"],
        "none": ["gone"],
    }
    angles = {"q": 0, "r0": 0, "r1": 60, "r1b": 61, "r1c": 62, "r2": 75, "r3": 80}
    rows = Vectors(
        angles,
        np.array(
            [[5 * np.cos(np.radians(a)), 5 * np.sin(np.radians(a))] for a in angles.values()],
            dtype=np.float32,
        ),
    )
    task = reviewing(tmp_path, hard, soft, reviewers)
    assert task.wanted() == ({"q"}, {"r0", "r1", "r1b", "r1c", "r2", "r3", "gone"})
    found = task.score(rows, rows, "euclidean")
    # one (0.59), many (0.48), even (0.26); by its nearest paper alone even would stay last, and by
    # the mean of all papers many (0.40) too would keep its place, so the metrics tell of the order.
    assert found.metrics["hard_precision1_grade1"] == 1.0
    assert found.metrics["hard_precision2_grade1"] == 0.5
    assert found.metrics["soft_precision2_grade1"] == 1.0
    assert found.settings["hard_queries"] == found.settings["soft_queries"] == 1
    assert any("not ranked: 1." in note for note in found.notes)


def test_a_reviewer_with_many_papers_far_off_is_not_ranked_down(tmp_path):
    pools = {"q": {"busy": 1, "idle": 0}}
    reviewers = {"busy": ["a", "b", "c", "d", "e"], "idle": ["f"]}
    rows = vectors(q=[1, 0], a=[1, 0.1], b=[1, 0.1], c=[1, 0.1], d=[-1, 0], e=[-1, 0], f=[1, 0.5])
    task = reviewing(tmp_path, pools, pools, reviewers)
    assert task.score(rows, rows, "cosine").metrics["hard_precision1_grade1"] == 1.0
