import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.cli import main
from sciembed_train.corpus import paper_writing
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.paper_writing import (
    NO_PAPER,
    NO_TEXT,
    SAME_TITLE,
    _joined,
    first_of_text,
)
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS
from sciembed_train.errors import UserError
from tests.helpers.paper_files import paper_settings, write_paper_files


def run_prepare(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_a_corpus_without_any_abstract_is_noted(tmp_path, capsys):
    papers, _ = write_paper_files(tmp_path)
    lines = [json.dumps({"paper_id": p["paper_id"], "title": p["title"]}) for p in papers]
    (tmp_path / "papers.jsonl").write_text("\n".join(lines))
    assert run_prepare("--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "titles") == 0
    assert "not one paper has an abstract" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"papers\.jsonl:121: this is not JSON"),
        ('{"paper_id": "x", "title": "t", "abstract": 17}', "`abstract` is the number 17"),
        ('{"paper_id": "x"}', "there is no `title`; the fields are paper_id"),
        (
            '{"paper_id": "p1", "title": "again"}',
            r"papers\.jsonl:121: `paper_id` 'p1' was given before, at .*papers\.jsonl:2;",
        ),
    ],
)
def test_a_malformed_row_stops_the_command_unless_allowed_for(tmp_path, capsys, line, message):
    write_paper_files(tmp_path)
    with (tmp_path / "papers.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message) as refused:
        prepare(paper_settings(tmp_path))
    assert "1 of 121 rows is like this." in str(refused.value)
    assert "--max-bad-rows 1" in str(refused.value)
    assert not (tmp_path / "corpus").exists()
    corpus = prepare(paper_settings(tmp_path, max_bad_rows=1))
    assert corpus.n_papers == 120
    malformed = json.loads((corpus.folder / "report.json").read_text())["papers"]["malformed"]
    assert [d["examples"] for d in malformed.values()] == [[f"{tmp_path / 'papers.jsonl'}:121"]]


def test_papers_without_any_text_or_without_rows_are_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"paper_id": 1, "title": ""}\n')
    with pytest.raises(UserError, match="none of its 1 papers has a title or an abstract"):
        prepare(PrepareSettings(path, to=tmp_path / "c"))
    path.write_text("")
    with pytest.raises(UserError, match=r"p\.jsonl: empty\. There is nothing to read"):
        prepare(PrepareSettings(path, to=tmp_path / "c"))


def test_keys_are_in_the_order_of_the_ids(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"paper_id": name, "title": f"title {name}"} for name in ("b", 10, "a", 9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = prepare(PrepareSettings(path, to=tmp_path / "c"))
    assert corpus.paper_ids() == ["10", "9", "a", "b"]
    assert [paper["title"] for paper in corpus.papers()] == [
        *("title 10", "title 9", "title a", "title b")
    ]


def corpus_of(tmp_path, rows, **settings):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = prepare(PrepareSettings(path, to=tmp_path / "corpus", **settings))
    return corpus, json.loads((corpus.folder / "report.json").read_text())


LONG = "A long title that no other paper has"


def test_papers_of_one_title_and_year_are_counted_and_merged_where_asked(tmp_path):
    rows = [
        {"paper_id": "a", "title": LONG, "abstract": "One abstract.", "year": 2001},
        {"paper_id": "b", "title": f"{LONG}!", "abstract": "Another one.", "year": "2001-05"},
        {"paper_id": "c", "title": LONG, "abstract": "A later one.", "year": 2002},
        {"paper_id": "d", "title": LONG, "abstract": "Without a year."},
        {"paper_id": "e", "title": LONG, "abstract": "one abstract", "year": 2001},
    ]
    corpus, report = corpus_of(tmp_path, rows)
    assert corpus.first_of_text().tolist() == [0, 1, 2, 3, 0]
    assert any(
        note.startswith("1 papers have the title and the year of another id and another abstract")
        and "b is a" in note
        for note in report["papers"]["notes"]
    )
    corpus, report = corpus_of(tmp_path, rows, merge_duplicates=True)
    assert corpus.first_of_text().tolist() == [0, 0, 2, 3, 0]
    assert report["papers"]["dropped"][SAME_TITLE]["count"] == 1


def test_merging_joins_groups_that_overlap():
    first = np.array([0, 1, 0, 1, 4], np.int32)  # 2 is 0, 3 is 1 by their texts
    joined = _joined(first, np.array([1], np.int32), np.array([0], np.int32))
    assert joined.tolist() == [0, 0, 0, 0, 4]


def test_a_short_title_is_of_many_papers(tmp_path):
    rows = [
        {"paper_id": i, "title": "Introduction", "abstract": f"Number {i}.", "year": 2001}
        for i in range(2)
    ]
    corpus, _ = corpus_of(tmp_path, rows, merge_duplicates=True)
    assert corpus.first_of_text().tolist() == [0, 1]


class Abstracts(RecordFormat):
    name = "abstracts"

    def recognises(self, row):
        return "body" in row

    def paper(self, row):
        return PaperRecord(row["id"], abstract=row["body"], completes=True)


def test_abstracts_in_rows_of_their_own_complete_papers(tmp_path, monkeypatch):
    monkeypatch.setitem(RECORD_FORMATS, "abstracts", Abstracts())
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        '{"id": 2, "body": "Of two."}\n{"id": 9, "body": "Of none."}\n'
        '{"id": 1, "body": "Not read."}\n'
    )
    (folder / "b.jsonl").write_text(
        '{"id": 2, "title": "Two"}\n{"id": 1, "title": "One", "abstract": "Of one."}\n'
        '{"id": 3, "title": ""}\n'
    )
    corpus = prepare(PrepareSettings(folder, to=tmp_path / "corpus"))
    assert [(p["paper_id"], p["abstract"]) for p in corpus.papers()] == [
        ("1", "Of one."),
        ("2", "Of two."),
        ("3", ""),
    ]
    report = json.loads((corpus.folder / "report.json").read_text())["papers"]
    assert report["dropped"][NO_PAPER]["examples"] == [f"{folder / 'a.jsonl'}:2"]
    assert report["dropped"][NO_TEXT]["examples"] == [f"{folder / 'b.jsonl'}:3"]
    assert "1 abstracts stand in rows of their own." in report["notes"]


def test_ids_that_differ_in_spelling_alone_are_told(tmp_path):
    rows = [{"paper_id": i, "title": f"Title of {i}"} for i in ("10.1000/x", "DOI:10.1000/X")]
    _, report = corpus_of(tmp_path, rows)
    assert any("differ from another one only in how" in note for note in report["papers"]["notes"])


@pytest.mark.parametrize("at_once", [1, 700, 10**9])
def test_papers_are_sorted_in_parts_of_any_size(tmp_path, monkeypatch, at_once):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(paper_writing, "SORTED_AT_ONCE", at_once)
    rows = [
        {"paper_id": f"p{i:03d}", "title": f"Title {i}", "abstract": ["One.", "Two."][: i % 3]}
        for i in rng.permutation(200).tolist()
    ]
    corpus, _ = corpus_of(tmp_path, rows)
    stored = list(corpus.papers())
    assert [paper["paper"] for paper in stored] == list(range(200))
    assert [paper["paper_id"] for paper in stored] == [f"p{i:03d}" for i in range(200)]
    assert [paper["title"] for paper in stored] == [f"Title {i}" for i in range(200)]
    assert stored[7]["abstract"] == ["One."]
    assert not list((tmp_path / "corpus").rglob("*.arrow"))


@given(st.lists(st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63)])))
def test_the_first_of_a_text_is_that_of_a_loop(texts):
    expected = [texts.index(text) if text else place for place, text in enumerate(texts)]
    first = first_of_text(np.array(texts, np.int64))
    assert (first.tolist(), first.dtype) == (expected, np.int32)
