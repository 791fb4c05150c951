import gzip
import json

import numpy as np
import pytest

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.pools import (
    Corrections,
    find_file,
    pool_distances,
    read_json,
    read_pools,
)
from sciembed_train.evaluation.systems import RandomOrder


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def pool(papers, grades):
    return {"cands": papers, "relevance_adju": grades}


def test_a_query_leaves_its_own_pool_and_a_candidate_counts_once(tmp_path):
    corrections = Corrections()
    content = {"a": pool(["b", "a", "b"], [2, 1, 2]), "c": pool([1], [0])}
    found = dict(read_pools(write(tmp_path / "pools.json", content), corrections))
    assert found == {"a": {"b": 2}, "c": {"1": 0}}
    assert corrections.notes() == [
        "Taken out of its own pool: query a.",
        "1 candidates are in a pool twice with one grade: used once.",
    ]
    assert Corrections().notes() == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (pool(["b"], []), "has not as many grades as candidates"),
        (pool(["b"], [-1]), "grades b as -1"),
        (pool(["b"], [True]), "grades b as True"),
        (pool(["b", "b"], [1, 2]), "grades b as 1 and as 2"),
        ({"cands": ["b"]}, "there is no 'relevance_adju'"),
    ],
)
def test_a_malformed_pool_is_refused_with_its_line(tmp_path, entry, message):
    path = write(tmp_path / "pools.json", {"a": entry})
    with pytest.raises(UserError, match=rf"pools\.json, record 1: expected .*{message}"):
        list(read_pools(path, Corrections()))


def test_distances_are_those_of_each_pool_in_its_own_order():
    class ByName(RandomOrder):
        def distances(self, search):
            titles = [title for title, _ in search.texts]
            assert titles == ["a", "b", "c", "d"]
            for rows in search.pools:
                yield np.array([ord(titles[paper]) for paper in search.papers[rows]])

    papers = {name: Paper(name, name, None) for name in ("d", "b", "c", "a")}
    (distances,) = pool_distances(ByName(), papers, [("a", ["d", "b", "c"])])
    assert distances.tolist() == [100, 98, 99]


def test_files_may_be_compressed_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b"[]"))
    assert find_file(tmp_path, ["a.json", "b.json"], "").name == "b.json.gz"
    with pytest.raises(UserError, match=r"holds no a\.json or c\.json .*; fetch them"):
        find_file(tmp_path, ["a.json", "c.json"], "fetch them")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json: is not valid JSON"):
        read_json(tmp_path / "x.json")
