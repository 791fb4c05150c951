import json

import pytest

from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.inference.paper_file import PaperFile


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_papers_come_in_the_files_order_and_those_without_text_are_counted(tmp_path):
    rows = [
        {"paper_id": "b", "title": "B", "abstract": "x"},
        {"paper_id": 3, "title": "", "abstract": None},
        {"paper_id": "a", "title": "A", "abstract": ["x", "y"]},
    ]
    papers = PaperFile(write(tmp_path / "p.jsonl", *rows))
    assert len(papers) == 3
    assert [paper.paper_id for paper in papers] == ["b", "3", "a"]
    assert papers.without_text == 1
    assert [row["title"] for _, row, _ in papers.with_rows()] == ["B", "", "A"]


def test_an_id_that_comes_twice_is_refused_or_left_out_with_both_lines(tmp_path):
    rows = [{"paper_id": i, "title": t, "abstract": None} for i, t in (("a", "1"), ("a", "2"))]
    path = write(tmp_path / "p.jsonl", *rows)
    with pytest.raises(UserError, match=r"p\.jsonl:2.*'a' was given before.*p\.jsonl:1"):
        PaperFile(path)
    papers = PaperFile(path, max_bad_rows=1)
    assert [paper.title for paper in papers] == ["1"]
    assert len(papers) == 1


def test_one_malformed_row_more_than_allowed_is_refused(tmp_path):
    path = write(tmp_path / "p.jsonl", {"title": "no id"}, {"paper_id": "a", "title": "A"})
    with pytest.raises(UserError, match=r"p\.jsonl:1"):
        PaperFile(path)
    assert [paper.paper_id for paper in PaperFile(path, max_bad_rows=1)] == ["a"]


def test_abstracts_in_a_file_of_their_own_are_told_to_be_joined(tmp_path):
    rows = [{"corpusid": 1, "openaccessinfo": {"license": None}, "abstract": "Text."}]
    with pytest.raises(UserError, match=r"p\.jsonl:1: this row only adds an abstract"):
        PaperFile(write(tmp_path / "p.jsonl", *rows))


def test_papers_from_a_number_on_leave_earlier_files_unread(tmp_path, monkeypatch):
    for name, ids in (("a", "abc"), ("b", ""), ("c", "dea"), ("d", "f")):
        rows = ({"paper_id": i, "title": i, "abstract": None} for i in ids)
        write(tmp_path / f"{name}.jsonl", *rows)
    papers = PaperFile(tmp_path, max_bad_rows=1)
    assert papers.checked.papers == [3, 0, 2, 1]
    opened, real = [], Table.rows_of

    def rows_of(table, number):
        opened.append(number)
        return real(table, number)

    monkeypatch.setattr(Table, "rows_of", rows_of)
    again = PaperFile(tmp_path, checked=papers.checked)
    assert not opened
    assert (len(again), again.malformed, again.notes) == (6, 1, papers.notes)
    for number in range(7):
        assert "".join(paper.paper_id for paper in again.since(number)) == "abcdef"[number:]
    opened.clear()
    assert [paper.paper_id for paper in again.since(4)] == ["e", "f"]
    assert opened == [2, 3]
