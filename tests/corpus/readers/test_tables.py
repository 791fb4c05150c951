import pytest

from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from tests.helpers.data_files import ROWS, compress, encode, read_table, rows_by_place


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_every_format_gives_the_same_rows(tmp_path, kind, ending):
    if kind == "parquet" and ending:
        pytest.skip("Parquet has its own compression")
    path = tmp_path / f"papers.{kind}{ending}"
    path.write_bytes(compress(encode(kind), ending))
    assert [row for _, row in read_table(path)] == ROWS


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_a_byte_order_mark_and_crlf_line_ends_are_tolerated(tmp_path, kind):
    rows = [ROWS[0], ROWS[2]]  # a line end inside a text is the text's own
    path = tmp_path / f"papers.{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + encode(kind, rows).replace(b"\n", b"\r\n"))
    assert [row for _, row in read_table(path)] == rows


@pytest.mark.parametrize(
    ("kind", "lines"), [("csv", [2, 3, 5]), ("json", [2, 7, 12]), ("jsonl", [1, 2, 3])]
)
def test_rows_know_the_line_on_which_they_start(tmp_path, kind, lines):
    path = tmp_path / f"p.{kind}"
    path.write_bytes(encode(kind))
    assert [place for place, _ in rows_by_place(path)] == [f"{path}:{line}" for line in lines]
    assert [Table(path, "papers").name(place) for place, _ in read_table(path)] == [
        f"p.{kind}:{line}" for line in lines
    ]


def test_other_names_of_the_columns_are_known(tmp_path):
    (tmp_path / "t.csv").write_text("query_paper_id,positive_id\na,b\n")
    (tmp_path / "t.jsonl").write_text('{"query_paper_id": "a", "positive_id": "b"}\n')
    for name in ("t.csv", "t.jsonl"):
        cells = Table(tmp_path / name, "x").cells(
            ("query", "positive"), ("query_paper_id", "positive_id")
        )
        assert [list(row) for _, row in cells] == [["a", "b"]]


def test_a_row_without_a_wanted_column_is_bad(tmp_path):
    (tmp_path / "c.csv").write_text("a,b\nc\n")
    (tmp_path / "c.jsonl").write_text('{"citing": 1, "to": 2}\n')
    rows = list(Table(tmp_path / "c.csv", "x").cells(("citing", "cited")))
    assert rows[1][1].message == "this row has 1 column; expected citing, cited."
    rows = list(Table(tmp_path / "c.jsonl", "x").cells(("citing", "cited")))
    assert rows[0][1].message == "there is no `cited`; the fields are citing, to."


def test_what_is_no_input_is_refused_before_anything_is_read_table(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        Table(tmp_path / "none.jsonl", "papers")
    (tmp_path / "p.xlsx").write_text("")
    with pytest.raises(UserError, match="the ending says no format of papers"):
        Table(tmp_path / "p.xlsx", "papers")
    with pytest.raises(UserError, match="holds no file of papers"):
        Table(tmp_path, "papers")
    (tmp_path / "queries.csv").write_text("query_id,text\n1,a\n")
    rows = list(Table(tmp_path / "queries.csv", "queries").rows())
    assert [row for _, row in rows] == [{"query_id": "1", "text": "a"}]


def test_a_folder_of_files_is_one_table_and_rows_know_their_file(tmp_path):
    (tmp_path / "2.jsonl").write_bytes(encode("jsonl", ROWS[1:]))
    (tmp_path / "1.parquet").write_bytes(encode("parquet", ROWS[:1]))
    (tmp_path / "README.txt").write_text("no table")
    table = Table(tmp_path, "papers")
    assert [row for _, row in table.rows()] == ROWS
    assert [table.where(place) for place, _ in table.rows()] == [
        f"{tmp_path / '1.parquet'}, row 1",
        f"{tmp_path / '2.jsonl'}:1",
        f"{tmp_path / '2.jsonl'}:2",
    ]
    assert [c["name"] for c in table.checksums()] == ["1.parquet", "2.jsonl"]
    assert len(table.checksums()[0]["sha256"]) == 64


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["part_000", "20230320_00001_a1.b"])
def test_json_lines_with_the_ending_of_their_compression_alone_are_read(tmp_path, ending, name):
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(compress(encode("jsonl"), ending))
    (tmp_path / f"other{ending}").write_bytes(compress(b"\0 no JSON", ending))
    (tmp_path / f"damaged{ending}").write_bytes(b"nothing")
    assert [row for _, row in read_table(path)] == ROWS
    table = Table(tmp_path, "papers")
    assert table.files == [path]
    assert table.ignored_files == 2
    with pytest.raises(UserError, match="the ending says no format of papers"):
        Table(tmp_path / f"other{ending}", "papers")


def test_files_are_looked_for_in_folders_within_where_a_folder_has_none(tmp_path):
    for name, rows in (("updated=1", ROWS[:1]), ("updated=2", ROWS[1:])):
        (tmp_path / "works" / name).mkdir(parents=True)
        (tmp_path / "works" / name / "part.gz").write_bytes(compress(encode("jsonl", rows), ".gz"))
    (tmp_path / "works" / "manifest").write_text("{}")
    table = Table(tmp_path / "works", "papers")
    assert [row for _, row in table.rows()] == ROWS
    names = [table.name(place) for place, _ in table.rows()]
    assert names == ["updated=1/part.gz:1", "updated=2/part.gz:1", "updated=2/part.gz:2"]
    (tmp_path / "works" / "one.jsonl").write_bytes(encode("jsonl", ROWS[:1]))
    assert [row for _, row in read_table(tmp_path / "works")] == ROWS[:1]
