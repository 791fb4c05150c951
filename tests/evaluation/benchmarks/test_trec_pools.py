import numpy as np
import pytest

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.trec_pools import TrecPool, papers_in, score_pools
from tests.helpers.trec_reference import trec_measures

POOLS = [
    TrecPool("x", "q", {"a": 1, "b": 0, "c": 1}),
    TrecPool("x", "r", {"a": 0, "b": 1, "q": 0}),
    TrecPool("y", "q", {"b": 0, "c": 1}),
]
NEAR = {"a": 1.0, "b": 1.0, "c": 2.0, "q": 3.0}
PAPERS = {name: Paper(name, f"T {name}", "") for name in "qrabc"}


def by_name(papers, asked):
    """Standard distances in which a and b are tied; the original's are the other way round."""
    assert set(papers) == {name for query, pool in asked for name in (query, *pool)}
    for query, pool in asked:
        assert query not in pool
        far = np.array([NEAR[name] for name in pool])
        yield far, -far


def scored(pools=POOLS, papers=None, metrics=("map", "ndcg"), ties="trec_eval"):
    return score_pools(pools, PAPERS if papers is None else papers, by_name, metrics, ties)


def test_both_forms_are_those_of_trec_eval():
    found = scored()
    for pool in POOLS:
        row = found.per_query[pool.name]
        want = trec_measures({name: -NEAR[name] for name in pool.grades}, pool.grades)
        original = trec_measures({name: NEAR[name] for name in pool.grades}, pool.grades)
        assert row["map_grade1"] == pytest.approx(want["map"])
        assert row["ndcg_log2"] == pytest.approx(want["ndcg"])
        assert row["original_map"] == pytest.approx(original["map"])
        assert row["original_ndcg"] == pytest.approx(original["ndcg"])
    # q of x: b, which is as near as a, comes first by its id; then a, c.
    assert found.per_query["x/q"]["map_grade1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    expected = scored(ties="expected").per_query["x/q"]
    assert expected["map_grade1"] == pytest.approx(((1 + 1 / 2) / 2 + 2 / 3) / 2)
    assert expected["original_map"] == found.per_query["x/q"]["original_map"]


def test_means_are_of_groups_and_the_average_is_of_the_means():
    found = scored()
    row = found.per_query
    first = (row["x/q"]["map_grade1"] + row["x/r"]["map_grade1"]) / 2
    assert found.metrics["x/map_grade1"] == pytest.approx(first)
    assert found.metrics["y/map_grade1"] == row["y/q"]["map_grade1"]
    assert found.metrics["average/map_grade1"] == pytest.approx(
        (first + row["y/q"]["map_grade1"]) / 2
    )
    assert found.settings["queries_by_group"] == {"x": 2, "y": 1}
    assert found.settings["queries_tied"] == 2
    assert found.query_texts == {"x/q": "T q", "x/r": "T r", "y/q": "T q"}


def test_what_cannot_be_ranked_is_counted():
    pools = [*POOLS, TrecPool("z", "lost", {"a": 1}), TrecPool("z", "q", {"gone": 1, "q": 1})]
    papers = {name: paper for name, paper in PAPERS.items() if name != "c"}
    papers["b"] = Paper("b", "", "")
    found = scored(pools, papers, ties="expected")
    assert list(found.per_query) == ["x/q", "x/r", "y/q"]
    assert "z/map_grade1" not in found.metrics
    assert found.per_query["y/q"]["map_grade1"] == 0  # its only relevant candidate is missed
    counts = {
        "queries_without_their_text": 1,
        "queries_without_candidates_texts": 1,
        "candidates_without_their_text": 2,
        "own_pool_left_out": 1,
        "papers_with_empty_text": 1,
        "queries_without_relevant": 0,
    }
    assert {key: found.settings[key] for key in counts} == counts
    assert len(found.notes) == 6  # with the ties
    with pytest.raises(UserError, match="No query is among the papers"):
        scored(pools, {"q": PAPERS["q"]})


def test_papers_are_those_that_ask_or_are_judged():
    assert papers_in(POOLS) == set("qrabc")
