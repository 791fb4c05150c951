import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.cocitations import evaluate, is_here, read_cocited
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.systems import RandomOrder


def folder_of(folder, pairs, names="abcdef", file="cocitations"):
    folder.mkdir()
    rows = [{"paper_id": name, "title": name, "abstract": ""} for name in names]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = ["\t".join(map(str, pair)) for pair in pairs]
    (folder / f"{file}.tsv").write_text("\n".join(["paper_a\tpaper_b\tcount", *lines]))
    return folder


class Alphabet(RandomOrder):
    def distances(self, search):
        letters = np.array([ord(title) for title, _ in search.texts], np.float32)
        for query in search.queries:
            yield np.abs(letters[search.papers] - letters[query])


@pytest.mark.parametrize("file", ["cocitations", "cocitation"])
def test_pairs_ask_from_both_sides(tmp_path, file):
    folder = folder_of(tmp_path / "c", [("a", "c", 3), ("a", "b", 1), ("e", "f", 1)], file=file)
    assert is_here(folder, "cocitations")
    found = evaluate(read_cocited(folder), Alphabet())
    assert found.per_query.keys() == {"a", "c"}  # the others are cited together once
    assert found.per_query["a"]["map_grade2"] == 1 / 2
    gains = [1, 3, 0]
    assert found.per_query["a"]["ndcg_log2"] == pytest.approx(metrics.ndcg(gains))
    assert found.metrics["cocitations/map_grade2"] == pytest.approx(
        np.mean([row["map_grade2"] for row in found.per_query.values()])
    )
    assert found.settings["queries_tied"] == 1  # of c, a and e are as far


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(NoQueriesError, match="no two papers"):
        read_cocited(folder_of(tmp_path / "a", [("a", "b", 1), ("a", "zz", 5)]))
    with pytest.raises(UserError, match=r"a and b were given before, with other counts|b and a"):
        read_cocited(folder_of(tmp_path / "b", [("a", "b", 2), ("b", "a", 3)]))
    with pytest.raises(UserError, match="`count` is 'x'"):
        read_cocited(folder_of(tmp_path / "c", [("a", "b", "x")]))
    (tmp_path / "d").mkdir()
    assert not is_here(tmp_path / "d", "cocitations")
    with pytest.raises(UserError, match="expected one file `cocitation`"):
        read_cocited(tmp_path / "d")
