import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.by_example import (
    Asking,
    Draw,
    cell_id,
    cell_number,
    read_rows,
)
from sciembed_train.evaluation.systems import RandomOrder
from sciembed_train.inference.paper_file import PaperFile


@pytest.fixture
def papers(tmp_path):
    path = tmp_path / "papers.jsonl"
    rows = [{"paper_id": name, "title": name, "abstract": "x"} for name in "abcde"]
    path.write_text("\n".join(map(json.dumps, rows)))
    return PaperFile(path)


class Alphabet(RandomOrder):
    """The distance of two letters."""

    def distances(self, search):
        letters = np.array([ord(title) for title, _ in search.texts], np.float32)
        assert search.pools is None
        for query in search.queries:
            yield np.abs(letters[search.papers] - letters[query])


def test_a_query_ranks_all_papers_but_itself(papers):
    asking = Asking.of(papers, {"b": {"e": 1, "a": 2}, "a": {"b": 1}}, 1)
    found = dict(asking.rank(Alphabet(), "paper_id"))
    assert found["a"].grades.tolist() == [1]
    assert found["b"].grades.tolist() == [2, 1]
    assert found["b"].places.first.tolist() == [0, 3]  # a and c are as far: a is first by its id
    assert dict(asking.rank(Alphabet(), "trec_eval"))["b"].places.first.tolist() == [1, 3]
    expected = dict(asking.rank(Alphabet(), "expected"))["b"].places
    assert (expected.first.tolist(), expected.size.tolist()) == ([0, 3], [2, 1])


def test_what_is_not_in_the_collection_is_counted(papers):
    grades = {"a": {"b": 1, "zz": 1}, "yy": {"a": 1}, "c": {"c": 1}, "d": {"a": 0}}
    asking = Asking.of(papers, grades, 1)
    assert asking.grades == {"a": {"b": 1}}
    assert asking.left_out == {
        "unknown_papers_left_out": 2,
        "queries_without_relevant_left_out": 3,
        "queries_not_drawn": 0,
        "papers_not_drawn": 0,
    }


def test_queries_are_drawn_by_their_ids_alone(papers):
    grades = {name: {"a": 1} for name in "bcde"}
    some = Asking.of(papers, grades, 1, Draw(2, seed=3))
    turned = Asking.of(papers, dict(reversed(grades.items())), 1, Draw(2, seed=3))
    assert len(some.grades) == 2
    assert some.grades.keys() == turned.grades.keys()
    assert some.left_out["queries_not_drawn"] == 2
    draws = {tuple(Asking.of(papers, grades, 1, Draw(2, seed=seed)).grades) for seed in range(20)}
    assert len(draws) > 2
    assert len(Asking.of(papers, grades, 1).grades) == 4


def test_cells_that_are_no_id_or_number_are_named(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("paper_id\tincluded\n\t1\nb\tmany\n")
    (first, one), (second, two) = read_rows(path, "labels")
    with pytest.raises(UserError, match=r"labels\.tsv:2: .*paper_id"):
        cell_id(first, one, "paper_id")
    with pytest.raises(UserError, match=r"labels\.tsv:3: `included` is 'many'"):
        cell_number(second, two, "included")
    for value in (-1, 1.5, None, ""):
        with pytest.raises(UserError, match="expected a whole number"):
            cell_number("file:1", {"count": value}, "count")
    assert cell_number("file:1", {"count": "3"}, "count") == 3
    path.write_bytes(b"paper_id\tincluded\n\xff\xfe\t1\n")
    with pytest.raises(UserError, match=r"labels\.tsv:2"):
        list(read_rows(path, "labels"))


def test_a_sample_has_the_relevant_papers_and_ranks_no_others(papers):
    grades = {"b": {"e": 1, "a": 0}, "a": {"b": 1}, "c": {"d": 1}}
    asking = Asking.of(papers, grades, 1, Draw(papers=3, seed=1))
    assert len(asking.candidates) == 3
    assert 1 <= len(asking.grades) < 3
    assert asking.left_out["papers_not_drawn"] == 2
    for query, row in asking.grades.items():
        assert row.keys() <= set(asking.candidates)
        assert any(grades[query][paper] for paper in row)
    for query, ranked in asking.rank(Alphabet(), "expected"):
        assert ranked.grades.sum() == sum(asking.grades[query].values())
        assert len(ranked.grades) <= 3
    assert Asking.of(papers, grades, 1, Draw(papers=5)).candidates == list("abcde")
