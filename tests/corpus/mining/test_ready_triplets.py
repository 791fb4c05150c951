import numpy as np
import pytest

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.mining.ready_triplets import export_csv, read_triplets
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage
from tests.helpers.small_corpus import write_small_corpus


def read(path, text, excluded=""):
    path.write_text(text)
    papers = Papers(
        list("abcd"), {n: i for i, n in enumerate("abcd")}, np.array([1, 1, 1, 0], bool)
    )
    papers.exclude(np.array([n in excluded for n in "abcd"]))
    audit = Audit("pairs")
    stage = Stage(Progress(quiet=True), "triplets", None, "rows")
    return read_triplets(Table(path, "triplets"), papers, audit, stage), audit


def test_rows_are_distinct_ascending_and_the_others_counted(tmp_path):
    text = "b,a,c\na,b,c\nb,a,c\na,b,x\na,d,b\na,a,b\n"
    rows, audit = read(tmp_path / "t.csv", text)
    assert rows.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert (audit.rows, audit.kept) == (6, 2)
    assert {reason: d.count for reason, d in audit.dropped.items()} == {
        "unknown negative": 1,
        "positive without a text": 1,
        "a paper twice in one triplet": 1,
        "given before": 1,
    }


def test_a_row_that_names_an_excluded_paper_is_counted(tmp_path):
    rows, audit = read(tmp_path / "t.csv", "b,a,c\na,c,b\na,b,x\n", excluded="c")
    assert not len(rows)
    assert {reason: d.count for reason, d in audit.dropped.items()} == {
        "excluded negative": 1,
        "excluded positive": 1,
        "unknown negative": 1,
    }


def test_a_row_that_cannot_be_read_is_refused_with_its_line(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv:2: `positive` is empty; expected a paper id"):
        read(tmp_path / "t.csv", "a,b,c\na,,c\n")
    rows, _ = read(tmp_path / "e.csv", "query,positive,negative\n")
    assert rows.shape == (0, 3)


def test_triplets_are_written_with_the_papers_ids(tiny_bert, tmp_path):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    export_csv(corpus, tmp_path / "csv")
    for split in SPLITS:
        head, *lines = (tmp_path / "csv" / f"{split}_triples.csv").read_text().splitlines()
        assert head == "query_paper_id,positive_id,negative_id"
        expected = [[f"p{paper}" for paper in row] for row in corpus.triplets(split)]
        assert [line.split(",") for line in lines] == expected
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be written"):
        export_csv(corpus, tmp_path / "file")
