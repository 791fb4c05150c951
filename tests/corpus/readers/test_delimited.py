import pytest

from sciembed_train.corpus.audit import BadRow
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
