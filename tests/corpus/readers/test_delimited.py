import csv
import io

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers import delimited
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from tests.helpers.data_files import read_table, rows_by_place


def test_broken_rows_of_a_csv_file_do_not_swallow_their_neighbours(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(
        b"paper_id,title,abstract\na,one,x\nb,two\nc,\xff,x\nd,four,x,y\n"
        b'e,"five" or so,x\nf,six,x\n'
    )
    result = rows_by_place(path)
    kept = [row["paper_id"] for _, row in result if not isinstance(row, BadRow)]
    bad = {where.rsplit(":")[-1]: row for where, row in result if isinstance(row, BadRow)}
    assert kept == ["a", "f"]
    assert {line: row.reason for line, row in bad.items()} == {
        "3": "wrong number of columns",
        "4": "not UTF-8",
        "5": "wrong number of columns",
        "6": "not a row",
    }
    assert bad["3"].message == "this row has 2 columns; the header has 3."


def test_a_quotation_mark_that_never_closes_is_refused_with_its_line(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('paper_id,title\na,one\nb,"two\nc,three\n')
    with pytest.raises(UserError, match=r"p\.csv:3: a quotation mark opens here and never closes"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "citing,cited\na,b\nc,d\n"),
        ("c.csv", "a,b\nc,d\n"),
        ("c.csv", "\ufeffcited,year,citing\nb,1999,a\nd,2000,c\n"),
        ("c.tsv", "a\tb\t1\nc\td\t2\n"),
        ("c.tsv", "Citing\tCited\tcontexts\na\tb\t1\nc\td\t2\n"),
        ("c.jsonl", '{"citing": "a", "cited": "b", "n": 1}\n{"cited": "d", "citing": "c"}\n'),
    ],
)
def test_columns_are_found_with_a_header_or_without(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    table = Table(tmp_path / name, "citations")
    result = [list(cells) for _, cells in table.cells(("citing", "cited"))]
    assert result == [["a", "b"], ["c", "d"]]


def test_a_header_without_an_expected_column_or_with_one_twice_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("id,title\n1,a\n")
    with pytest.raises(UserError, match=r"p\.csv:1: .*`paper_id` is not among them: id, title"):
        list(Table(tmp_path / "p.csv", "papers", needed=("paper_id",)).rows())
    (tmp_path / "q.csv").write_text("paper_id,title,title\n")
    with pytest.raises(UserError, match="two columns are called 'title'"):
        read_table(tmp_path / "q.csv")


ROW = {"paper_id": "a", "title": "One, and; more", "abstract": "x"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
def test_the_first_line_decides_the_delimiter(tmp_path, name, delimiter):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROW), delimiter=delimiter)
    writer.writeheader()
    writer.writerow(ROW)
    (tmp_path / name).write_text("\ufeff" + out.getvalue(), newline="")
    assert [row for _, row in read_table(tmp_path / name)] == [ROW]


def test_a_delimiter_in_quotation_marks_decides_nothing(tmp_path):
    (tmp_path / "p.csv").write_text('paper_id;"a, title"\n1;One\n')
    assert [row for _, row in read_table(tmp_path / "p.csv")] == [
        {"paper_id": "1", "a, title": "One"}
    ]
    (tmp_path / "q.csv").write_text("title\na;b\n")
    assert [row for _, row in read_table(tmp_path / "q.csv")] == [{"title": "a;b"}]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_index_that_pandas_writes_is_no_hindrance(tmp_path, ending):
    path = tmp_path / f"p.{ending}"
    text = ",Paper_ID,Title\n0,7.0,One\n1,8.0,Two\n"
    path.write_text(text.replace(",", "\t" if ending == "tsv" else ";"))
    papers = [paper for _, paper in PaperRows(Table(path, "papers"))]
    assert [(paper.paper_id, paper.title) for paper in papers] == [("7.0", "One"), ("8.0", "Two")]


def test_a_quotation_mark_that_never_closes_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "MAX_LINE", 10_000)
    (tmp_path / "p.csv").write_text('id,title\n1,"open\n' + "2,word\n" * 10_000)
    with pytest.raises(UserError, match=r"p\.csv:2: a field of more than"):
        read_table(tmp_path / "p.csv")
