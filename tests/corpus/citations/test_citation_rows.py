import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.citation_rows import read_citations, save_citations
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage
from tests.helpers.paper_files import paper_settings, write_paper_files


def read(tmp_path, text, names="abc"):
    path = tmp_path / "c.csv"
    path.write_text(text)
    papers = Papers(list(names), {n: i for i, n in enumerate(names)}, np.ones(len(names), bool))
    audit = Audit("citations")
    stage = Stage(Progress(quiet=True), "citations", None, "rows")
    return read_citations(Table(path, "citations"), papers, audit, stage), audit


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


def test_a_first_row_of_unknown_names_may_be_a_header(tmp_path):
    _, audit = read(tmp_path, "source,target\na,b\n")
    assert audit.notes[0].startswith("The first row (source, target) names no known paper.")


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
