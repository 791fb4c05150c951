import json

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError


def read(path, **options):
    return [paper for _, paper in PaperRows(Table(path, "papers"), **options)]


def test_each_file_is_read_in_the_format_of_its_first_row(tmp_path):
    (tmp_path / "a.csv").write_text("Paper_ID,Title\np1,One\n")
    work = {"id": "https://openalex.org/W2", "display_name": "Two", "referenced_works": ["p1"]}
    (tmp_path / "b.jsonl").write_text(json.dumps(work))
    rows = PaperRows(Table(tmp_path, "papers"))
    papers = [paper for _, paper in rows]
    assert [(p.paper_id, p.title, p.references) for p in papers] == [
        ("p1", "One", ()),
        ("W2", "Two", ("p1",)),
    ]
    assert rows.said() == ["a.csv: rows with a column for each field", "b.jsonl: OpenAlex works"]


def test_a_table_without_a_known_column_is_refused_with_what_to_write(tmp_path):
    (tmp_path / "p.csv").write_text("number,headline\n1,One\n")
    with pytest.raises(UserError) as error:
        read(tmp_path / "p.csv")
    assert str(error.value) == (
        f"{tmp_path / 'p.csv'}: no column has a name known for `paper_id` or `title`; it has "
        "`number`, `headline`. Say which one it is: --map paper_id=COLUMN --map title=COLUMN."
    )
    (paper,) = read(tmp_path / "p.csv", columns={"paper_id": "number", "title": "headline"})
    assert (paper.paper_id, paper.title) == ("1", "One")


def test_a_column_that_is_named_and_not_there_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("id,title\n1,One\n")
    with pytest.raises(UserError, match=r"no column of --map title=headline; it has `id`, `title`"):
        read(tmp_path / "p.csv", columns={"title": "headline"})


def test_plain_is_no_other_format(tmp_path):
    work = {"id": "https://openalex.org/W2", "display_name": "Two"}
    (tmp_path / "p.jsonl").write_text(json.dumps(work))
    assert read(tmp_path / "p.jsonl")[0].paper_id == "W2"
    assert read(tmp_path / "p.jsonl", format="plain")[0].paper_id == work["id"]


def test_a_row_of_json_without_an_id_is_one_bad_row(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"title": "no id"}\n{"id": 1, "title": "One"}\n')
    bad, paper = read(tmp_path / "p.jsonl")
    assert isinstance(bad, BadRow)
    assert paper.paper_id == "1"
