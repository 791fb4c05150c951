import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus import row_blocks
from sciembed_train.corpus.audit import EXAMPLES, Audit
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations import citation_rows
from sciembed_train.corpus.citations.citation_files import CitationFiles
from sciembed_train.corpus.citations.citation_rows import read_citations, save_citations
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers import column_blocks
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage
from tests.helpers.paper_files import paper_settings, write_paper_files


def papers_of(names, **values):
    return Papers(
        list(names), {n: i for i, n in enumerate(names)}, np.ones(len(names), bool), **values
    )


def read(tmp_path, text, names="abc", file="c.csv", papers=None, columns=None):
    (tmp_path / file).write_text(text)
    audit = Audit("citations")
    stage = Stage(Progress(quiet=True), "citations", None, "rows")
    papers = papers or papers_of(names)
    table = Table(tmp_path / file, "citations")
    blocks = CitationFiles(table, papers.finder, columns or {}).blocks()
    rows = read_citations(blocks, table, papers, audit, stage, tmp_path)
    return rows, audit


def test_citations_are_distinct_ascending_and_the_others_counted(tmp_path):
    rows, audit = read(tmp_path, "c,a\na,b\nc,a\na,a\nx,a\na,y\nx,y\na,b\n")
    assert rows.tolist() == [[0, 1], [2, 0]]
    assert (audit.rows, audit.kept) == (8, 2)
    dropped = {reason: d.count for reason, d in audit.dropped.items()}
    assert dropped == {
        "a paper citing itself": 1,
        "unknown citing paper": 1,
        "unknown cited paper": 1,
        "unknown citing and cited paper": 1,
        "given before": 2,
    }
    places = audit.dropped["given before"].examples
    assert [place.rsplit(":")[-1] for place in places] == ["3", "8"]


def test_an_edge_list_of_pandas_is_read_by_its_header(tmp_path):
    """Its integer ids were once taken for those of the index."""
    rows, audit = read(tmp_path, ",source,target\n0,1,2\n1,2,0\n", names="012")
    assert rows.tolist() == [[1, 2], [2, 0]]
    assert audit.rows == 2


def test_columns_may_stand_in_the_other_order(tmp_path):
    rows, _ = read(tmp_path, "cited_id,citing_id\na,b\n")
    assert rows.tolist() == [[1, 0]]


def test_columns_may_be_named_or_counted(tmp_path):
    given = {"citing": "3", "cited": "2"}
    assert read(tmp_path, "0,a,b\n1,b,c\n", columns=given)[0].tolist() == [[1, 0], [2, 1]]
    given = {"citing": "y", "cited": "x"}
    assert read(tmp_path, "x,y\na,b\n", columns=given)[0].tolist() == [[1, 0]]


def test_ids_are_found_in_any_spelling(tmp_path):
    text = "citing,cited\n https://doi.org/10.1000/X ,a\na,17.0\n"
    rows, audit = read(tmp_path, text, names=["10.1000/x", "17", "a"])
    assert rows.tolist() == [[0, 2], [2, 1]]
    assert audit.notes == [
        "Some ids are spelled otherwise than the papers' (the first: https://doi.org/10.1000/X is "
        "10.1000/x); they were brought together."
    ]


def test_an_empty_id_is_malformed(tmp_path):
    with pytest.raises(UserError, match=r"c\.csv:3: `cited` is empty; expected a paper id\."):
        read(tmp_path, "citing,cited\na,b\nb, \n")


def test_quotation_marks_blank_lines_and_faults_keep_the_line_numbers(tmp_path):
    text = 'citing,cited\na,b\n\nb,a\n"c",a\nb,"a\nx"\nz,a\n'
    rows, audit = read(tmp_path, text)
    assert rows.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert audit.dropped["unknown cited paper"].examples == [f"{tmp_path / 'c.csv'}:6"]
    assert audit.dropped["unknown citing paper"].examples == [f"{tmp_path / 'c.csv'}:8"]


def test_most_citations_from_older_to_newer_are_warned_of(tmp_path):
    names = [f"p{i}" for i in range(30)]
    years = np.arange(1990, 2020).astype(np.int16)
    text = "citing,cited\n" + "".join(f"p{i},p{i + 1}\n" for i in range(29))
    _, audit = read(tmp_path, text, papers=papers_of(names, years=years))
    assert "In 100% of the citations between papers of two years" in audit.notes[0]
    _, audit = read(
        tmp_path, text.replace("citing,cited", "cited,citing"), papers=papers_of(names, years=years)
    )
    assert audit.notes == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.jsonl", '{"citing": "a", "cited": "b"}\n{"citing": "c", "cited": "a"}\n'),
        (
            "c.jsonl",
            '{"citingcorpusid": "a", "citedcorpusid": "b"}\n'
            '{"citingcorpusid": "c", "citedcorpusid": "a"}\n',
        ),
        ("c.jsonl", '{"id": "a", "references": ["b"]}\n{"id": "c", "references": ["a"]}\n'),
        ("c.json", '[{"id": "a", "references": ["b"], "cited_by": [{"paperId": "c"}]}]'),
        ("c.csv", "id,references\na,b; z\nc,a\n"),
    ],
)
def test_citations_stand_in_pairs_or_in_lists_of_references(tmp_path, file, text):
    rows, _ = read(tmp_path, text, file=file)
    assert rows.tolist() == [[0, 1], [2, 0]]


def test_no_citation_at_all_is_an_empty_array(tmp_path):
    rows, audit = read(tmp_path, "citing,cited\n")
    assert (rows.shape, rows.dtype, audit.dropped) == ((0, 2), np.int32, {})


def test_citations_are_saved_as_array_and_table(tmp_path):
    rows = np.array([[0, 1], [2, 0]], np.int32)
    save_citations(tmp_path, rows)
    assert np.load(tmp_path / "citations.npy").tolist() == rows.tolist()
    table = pq.read_table(tmp_path / "citations.parquet")
    assert table.to_pydict() == {"citing": [0, 2], "cited": [1, 0]}


def test_a_malformed_citation_is_reported_with_its_line(tmp_path):
    write_paper_files(tmp_path)
    with (tmp_path / "citations.csv").open("a") as file:
        file.write("p1\n")
    rows = len((tmp_path / "citations.csv").read_text().splitlines())
    with pytest.raises(UserError, match=rf"citations\.csv:{rows}: this row has 1 column; expected"):
        prepare(paper_settings(tmp_path))


@pytest.mark.parametrize("seed", range(6))
def test_citations_in_many_blocks_are_those_of_a_loop(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(row_blocks, "BLOCK", 16)
    monkeypatch.setattr(citation_rows, "BLOCK", 16)
    monkeypatch.setattr(column_blocks, "PART", 100)
    rng = np.random.default_rng(seed)
    number = {f"id-{i:02d}": i for i in range(20)}
    ids = [*number, *(f"unknown-{i}" for i in range(6 * seed))]
    pairs = [tuple(rng.choice(ids, 2).tolist()) for _ in range(60 * seed)]
    rows, audit = read(tmp_path, "".join(f"{a},{b}\n" for a, b in pairs), names=number)
    known, again, unknown = [], [], []
    for line, (a, b) in enumerate(pairs, 1):
        if a not in number or b not in number:
            unknown.append(line)
        elif a != b:
            pair = (number[a], number[b])
            (again if pair in known else known).append(line if pair in known else pair)
    assert list(map(tuple, rows.tolist())) == sorted(known)
    assert audit.kept == len(known)
    dropped = {reason: d.count for reason, d in audit.dropped.items()}
    assert sum(n for reason, n in dropped.items() if "unknown" in reason) == len(unknown)
    assert dropped.get("given before", 0) == len(again)
    places = audit.dropped["given before"].examples if again else []
    assert [int(place.rsplit(":")[-1]) for place in places] == again[:EXAMPLES]
