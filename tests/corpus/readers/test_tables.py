import csv
import gzip
import io
import json
import sys

import pytest

from sciembed_train.corpus.readers import json_members
from sciembed_train.corpus.readers.tables import Table, iter_json, kind_of
from sciembed_train.corpus.validation import BadRow
from sciembed_train.errors import UserError

ROWS = [
    {"paper_id": "a", "title": 'Zwölf "quoted", titles', "abstract": "one\ttwo"},
    {"paper_id": "b", "title": "second", "abstract": "line one\nline two"},
    {"paper_id": "ü", "title": "third", "abstract": ""},
]


def encode(kind, rows=ROWS):
    if kind == "jsonl":
        return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False).encode()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    out = io.StringIO()
    delimiter = "\t" if kind == "tsv" else ","
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def compress(data, ending):
    import zstandard

    if ending == ".gz":
        return gzip.compress(data)
    return zstandard.compress(data) if ending == ".zst" else data


def read(path, what="papers"):
    return list(Table(path, what).rows())


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_every_format_gives_the_same_rows(tmp_path, kind, ending):
    if kind == "parquet" and ending:
        pytest.skip("Parquet has its own compression")
    path = tmp_path / f"papers.{kind}{ending}"
    path.write_bytes(compress(encode(kind), ending))
    assert [row for _, row in read(path)] == ROWS


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_a_byte_order_mark_and_crlf_line_ends_are_tolerated(tmp_path, kind):
    rows = [ROWS[0], ROWS[2]]  # a line end inside a text is the text's own
    path = tmp_path / f"papers.{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + encode(kind, rows).replace(b"\n", b"\r\n"))
    assert [row for _, row in read(path)] == rows


def places(path):
    table = Table(path, "papers")
    return [(table.where(place), row) for place, row in table.rows()]


def test_rows_know_the_line_on_which_they_start(tmp_path):
    (tmp_path / "p.csv").write_bytes(encode("csv"))
    assert [where.rsplit(":")[-1] for where, _ in places(tmp_path / "p.csv")] == ["2", "3", "5"]
    (tmp_path / "p.json").write_bytes(encode("json"))
    assert [where.rsplit(":")[-1] for where, _ in places(tmp_path / "p.json")] == ["2", "7", "12"]
    (tmp_path / "p.parquet").write_bytes(encode("parquet"))
    assert places(tmp_path / "p.parquet")[2][0].endswith("p.parquet, row 3")
    (tmp_path / "p.jsonl").write_bytes(b"\n" + encode("jsonl"))
    assert [where.rsplit(":")[-1] for where, _ in places(tmp_path / "p.jsonl")] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"paper_id": 1', "not JSON"),
        (b"[1, 2]", "not an object"),
        (b"nonsense", "not JSON"),
        (b'{"paper_id": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"paper_id": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_malformed_line_is_a_bad_row_and_the_next_is_read(tmp_path, line, reason):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"paper_id": 1}\n' + line + b'\n{"paper_id": 2}\n')
    (_, first), (place, bad), (_, last) = read(path)
    assert (first, last) == ({"paper_id": 1}, {"paper_id": 2})
    assert place == 2
    assert isinstance(bad, BadRow)
    assert bad.reason == reason


def test_broken_rows_of_a_csv_file_do_not_swallow_their_neighbours(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(
        b"paper_id,title,abstract\na,one,x\nb,two\nc,\xff,x\nd,four,x,y\n"
        b'e,"five" or so,x\nf,six,x\n'
    )
    found = places(path)
    kept = [row["paper_id"] for _, row in found if not isinstance(row, BadRow)]
    bad = {where.rsplit(":")[-1]: row for where, row in found if isinstance(row, BadRow)}
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
        read(path)


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
    found = [list(cells) for _, cells in table.cells(("citing", "cited"))]
    assert found == [["a", "b"], ["c", "d"]]


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


def test_a_json_object_of_records_gives_each_its_key(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(
        '{"a": {"title": "x"}, "b": {"paper_id": "b"},\n "c": {"paper_id": "d"}, "e": 1}'
    )
    rows = [row for _, row in read(path)]
    assert rows[:2] == [{"paper_id": "a", "title": "x"}, {"paper_id": "b"}]
    assert rows[2].message == "the key is 'c' and `paper_id` in it is 'd'."
    assert len(rows) == 4


def test_json_lines_under_the_ending_json_are_read_as_what_they_are(tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(encode("jsonl"))
    assert read(path) == list(zip([1, 2, 3], ROWS, strict=True))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_json_is_read_the_same_in_chunks_of_any_size(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_members._JsonFile, "CHUNK", chunk)
    value = [{"a": 'é\n"]', "b": [1.5e-3, {"c": None}]}, {"d": 12345}, {"e": "x" * 300}]
    path = tmp_path / "x.json"
    for indent in (None, 2):
        path.write_text(json.dumps(value, indent=indent, ensure_ascii=False))
        assert [v for *_, v in iter_json(path)] == value
    keyed = {str(i): v for i, v in enumerate(value)}
    path.write_text(json.dumps(keyed))
    assert {k: v for _, k, v in iter_json(path)} == keyed


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_damaged_json_is_told_with_its_line(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_members._JsonFile, "CHUNK", chunk)
    path = tmp_path / "x.json"
    for text, line in (
        ('[{"a": 1},\n{"b": nonsense}]', 2),
        ('[{"a": 1},\n\n{"b": 2}', 3),
        ('[{"a": 1}\n{"b": 2}]', 2),
        ('"text"', 1),
        ('[{"a": 1}]\nmore', 2),
        ('{"a": {}\n,,}', 2),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"x\.json:{line}: this is not JSON"):
            list(iter_json(path))


def test_damaged_and_unreadable_files_are_told_in_words(tmp_path):
    import zstandard

    whole = encode("jsonl", ROWS * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(whole)[:-500])
    (tmp_path / "not.jsonl.gz").write_bytes(whole)
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(whole)[:-50])
    (tmp_path / "not.jsonl.zst").write_bytes(whole)
    (tmp_path / "not.parquet").write_bytes(whole)
    (tmp_path / "cut.parquet").write_bytes(encode("parquet")[:-10])
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=rf"{path.name}.* (damaged|not a Parquet file)"):
            read(path)
    (tmp_path / "wide.csv").write_bytes("paper_id,title\n".encode("utf-16"))
    with pytest.raises(UserError, match="is UTF-16; save it as UTF-8"):
        read(tmp_path / "wide.csv")


def test_several_compressed_frames_are_read_as_one_file(tmp_path):
    for ending in (".gz", ".zst"):
        path = tmp_path / f"p.jsonl{ending}"
        path.write_bytes(b"".join(compress(encode("jsonl", [row]), ending) for row in ROWS))
        assert [row for _, row in read(path)] == ROWS


def test_what_is_no_input_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        Table(tmp_path / "none.jsonl", "papers")
    (tmp_path / "p.xlsx").write_text("")
    with pytest.raises(UserError, match="the ending says no format of papers"):
        Table(tmp_path / "p.xlsx", "papers")
    with pytest.raises(UserError, match="holds no file of papers"):
        Table(tmp_path, "papers")
    (tmp_path / "p.csv").write_text("id,title\n1,a\n")
    with pytest.raises(UserError, match=r"p\.csv:1: .*`paper_id` is not among them: id, title"):
        read(tmp_path / "p.csv")
    (tmp_path / "queries.csv").write_text("query_id,text\n1,a\n")
    rows = list(Table(tmp_path / "queries.csv", "queries").rows())
    assert [row for _, row in rows] == [{"query_id": "1", "text": "a"}]
    (tmp_path / "q.csv").write_text("paper_id,title,title\n")
    with pytest.raises(UserError, match="two columns are called 'title'"):
        read(tmp_path / "q.csv")
    assert kind_of(tmp_path / "a.parquet.gz") is None


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


def test_a_saved_dataset_is_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    parts = datasets.DatasetDict({"a": whole.select([0]), "b": whole.select([1, 2])})
    parts.save_to_disk(tmp_path / "two")
    for name in ("one", "two"):
        table = Table(tmp_path / name, "papers")
        assert [row for _, row in table.rows()] == ROWS
        assert table.where(next(iter(table.rows()))[0]).endswith(f"{name}, row 1")
        assert table.checksums()
        cells = table.cells(("paper_id", "title"))
        assert [list(c) for _, c in cells] == [[r["paper_id"], r["title"]] for r in ROWS]


def test_a_mistyped_path_is_told_though_it_could_be_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"my/papers: there is no such file or folder \(papers\)"):
        Table("my/papers", "papers")


def test_a_hub_name_without_network_is_told_as_such(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    asked = []

    def refuse(name, config, split):
        asked.append((name, config, split))
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="no dataset of that name could be loaded: no network"):
        Table("owner/name:config@train", "papers")
    assert asked == [("owner/name", "config", "train")]
