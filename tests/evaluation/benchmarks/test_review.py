import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.benchmarks.review import (
    evaluate,
    is_here,
    read_review,
    screening,
)
from sciembed_train.evaluation.ranking import Ranked
from sciembed_train.evaluation.systems import RandomOrder


def review(folder, included):
    folder.mkdir()
    rows = [{"paper_id": name, "title": name, "abstract": ""} for name in included]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [f"{name}\t{value}" for name, value in included.items()]
    (folder / "labels.tsv").write_text("\n".join(["paper_id\tincluded", *lines]))
    return folder


class Numbers(RandomOrder):
    def distances(self, search):
        numbers = np.array([int(title) for title, _ in search.texts], np.float32)
        for query in search.queries:
            yield np.abs(numbers[search.papers] - numbers[query])


class One(RandomOrder):
    def distances(self, search):
        for _ in search.queries:
            yield np.full(len(search.papers), 0.3, np.float32)


def test_every_included_paper_asks_for_the_others(tmp_path):
    folder = review(tmp_path / "r", {"1": 1, "2": 0, "4": 1, "8": 0, "16": 1, "32": 0})
    assert is_here(folder, "review")
    found = evaluate(read_review(folder), Numbers())
    assert found.per_query.keys() == {"1", "4", "16"}
    # 1 ranks 2, 4, 8, 16, 32: the last relevant one is fourth of five.
    one = found.per_query["1"]
    assert one["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert one["wss95"] == pytest.approx(1 / 5 - 0.05)
    assert one["recall_pct10"] == 0  # a tenth of five is no paper
    mean = np.mean([row["wss95"] for row in found.per_query.values()])
    assert found.metrics["review/wss95"] == pytest.approx(mean)
    assert found.settings["papers"] == 6


def test_recall_is_of_a_tenth_of_the_candidates():
    ranked = Ranked(np.array([1, 0, 1, 0, 1]), None, False)
    assert screening(ranked, 30)["recall_pct10"] == pytest.approx(2 / 3)
    assert screening(ranked, 30)["wss95"] == pytest.approx(25 / 30 - 0.05)


def test_one_vector_for_everything_saves_what_chance_does(tmp_path):
    names = {str(at): int(at < 12) for at in range(60)}
    found = evaluate(read_review(review(tmp_path / "r", names)), One())
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(3000):
        row = np.zeros(59)
        row[rng.permutation(59)[:11]] = 1
        chance.append(metrics.work_saved(row, 59))
    assert found.metrics["review/wss95"] == pytest.approx(np.mean(chance), abs=0.005)
    assert found.metrics["review/recall_pct10"] == pytest.approx(5 / 59)
    assert found.settings["queries_tied"] == 12


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(NoQueriesError, match="fewer than two"):
        read_review(review(tmp_path / "one", {"1": 1, "2": 0}))
    with pytest.raises(UserError, match="`included` is 2; expected 1 or 0"):
        read_review(review(tmp_path / "two", {"1": 2, "2": 1}))
    folder = review(tmp_path / "three", {"1": 1, "2": 1})
    with (folder / "labels.tsv").open("a") as file:
        file.write("\n1\t0")
    with pytest.raises(UserError, match="paper 1 was given before, with another label"):
        read_review(folder)
    (folder / "labels.tsv").unlink()
    assert not is_here(folder, "review")
    with pytest.raises(UserError, match="expected one file `labels`"):
        read_review(folder)
