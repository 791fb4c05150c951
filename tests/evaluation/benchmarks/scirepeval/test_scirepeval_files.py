import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.label_files import read_labels
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_files import (
    read_judgements,
    read_reviewers,
    read_texts,
)
from tests.helpers.small_scirepeval import write_lines

TITLED = ("title", "abstract")


def test_texts_are_the_fields_that_are_there_of_the_papers_asked_for(tmp_path):
    rows = [
        {"doc_id": "a", "title": "A", "abstract": None, "venue": "", "year": 1964.0},
        {"doc_id": 7, "title": "B", "abstract": "Of b.", "venue": "V", "year": ""},
        {"doc_id": "a", "title": "again", "abstract": "", "venue": "", "year": ""},
        {"doc_id": "other", "title": "O", "abstract": "", "venue": "", "year": ""},
        {"doc_id": "none", "title": "", "abstract": "", "venue": "", "year": ""},
    ]
    write_lines(tmp_path / "meta.jsonl", rows)
    fields = ("title", "abstract", "venue", "year")
    found = read_texts(str(tmp_path / "meta.jsonl"), fields, None, {"a", "7", "none", "gone"})
    assert found.others == {"a": ("A", "1964"), "7": ("B", "Of b.", "V"), "none": ()}
    assert (found.queries, found.empty) == ({}, 1)


SEARCHES = [
    {
        "doc_id": "q1",
        "query": "words",
        "candidates": [
            {"doc_id": "c1", "title": "C", "abstract": "c", "venue": "", "year": 2001},
            {"doc_id": "q1", "title": "same id", "abstract": "", "venue": "", "year": ""},
        ],
    },
    {
        "query": {"doc_id": "q2", "title": "more words"},
        "candidates": [{"doc_id": "c1", "title": "again", "venue": "", "year": ""}],
    },
]


def test_a_search_gives_its_query_and_its_candidates(tmp_path):
    write_lines(tmp_path / "meta.jsonl", SEARCHES)
    fields = ("title", "abstract", "venue", "year")
    found = read_texts(str(tmp_path / "meta.jsonl"), fields, {"q1", "q2"}, {"c1", "q1"})
    assert found.queries == {"q1": ("words",), "q2": ("more words",)}
    assert found.others == {"c1": ("C", "c", "2001"), "q1": ("same id",)}


def test_queries_that_are_read_as_papers_are_among_them(tmp_path):
    write_lines(tmp_path / "meta.jsonl", SEARCHES)
    found = read_texts(str(tmp_path / "meta.jsonl"), TITLED, None, {"q1", "q2", "c1"})
    assert found.queries == {}
    assert list(found.others) == ["q1", "c1", "q2"]
    assert found.others["q1"] == ("words",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"title": "a", "abstract": ""}, ":1: `doc_id` is null"),
        ({"doc_id": "a", "abstract": ""}, ":1: there is no `title`"),
        ({"doc_id": "a", "title": ["x", 3]}, ":1: `title` is a list of 2"),
        ({"query": "w", "candidates": []}, ":1: `doc_id` is null"),
        ({"doc_id": "a", "query": "w", "candidates": "c"}, ":1: `candidates` is the text 'c'"),
        (
            {"doc_id": "a", "query": "w", "candidates": [{"doc_id": "a", "abstract": ""}]},
            ":1: there is no `title` of candidate 1",
        ),
        ({"query": 3, "candidates": []}, "the text of the query is the number 3"),
    ],
)
def test_bad_texts_are_refused_with_their_place(tmp_path, row, told):
    write_lines(tmp_path / "meta.jsonl", [row])
    with pytest.raises(UserError, match=told):
        read_texts(str(tmp_path / "meta.jsonl"), TITLED, {"b"}, {"a"})


def test_judgements_are_pools_of_grades(tmp_path):
    rows = [("q", "a", 2), (5, 6, 1.0), ("q", "b", 0), ("q", "a", 1), ("5", "6", 1)]
    names = ("query_id", "cand_id", "score")
    write_lines(tmp_path / "test_qrel.jsonl", [dict(zip(names, r, strict=True)) for r in rows])
    pools, again = read_judgements(str(tmp_path))
    assert pools == {"q": {"a": 1, "b": 0}, "5": {"6": 1}}
    assert again == 1


@pytest.mark.parametrize("score", [None, 0.5, "x", [1]])
def test_a_grade_that_is_no_whole_number_is_refused(tmp_path, score):
    row = {"query_id": "q", "cand_id": "a", "score": score}
    write_lines(tmp_path / "test_qrel.jsonl", [row])
    with pytest.raises(UserError, match=r":1: `score` is .*; expected a whole number"):
        read_judgements(str(tmp_path))


def test_reviewers_have_papers(tmp_path):
    write_lines(tmp_path / "reviewer_metadata.jsonl", [{"r_id": 1, "papers": [2, "x"]}])
    assert read_reviewers(str(tmp_path)) == {"1": ["2", "x"]}
    write_lines(tmp_path / "reviewer_metadata.jsonl", [{"r_id": 1, "papers": "x"}])
    with pytest.raises(UserError, match="`papers` is the text 'x'; expected a list"):
        read_reviewers(str(tmp_path))


def test_a_dataset_has_the_same_rows_under_its_splits(tmp_path, monkeypatch):
    """A dataset's name is looked for here before it is on the hub."""
    pytest.importorskip("datasets")
    folder = tmp_path / "owner" / "evaluated"
    for split in ("train", "test"):
        write_lines(folder / f"{split}.jsonl", [{"paper_id": split, "label": 3.5}])
    files = [{"split": s, "path": f"{s}.jsonl"} for s in ("train", "test")]
    card = json.dumps({"configs": [{"config_name": "hIndex", "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}\n---\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = read_labels("owner/evaluated:hIndex", "regression", False)
    assert (found.train.ids, found.test.ids) == (["train"], ["test"])
    np.testing.assert_array_equal(found.test.values, [3.5])
