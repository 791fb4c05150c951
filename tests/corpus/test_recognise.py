import json

import pytest

from sciembed_train.corpus.recognise import look_at, may_cite
from sciembed_train.errors import UserError

PAPERS = "Paper_ID,Title,Abstract,Year\n1,One,We do.,2001\n2,Two,,\n3,Three,Text.,2003\n4,Four,,\n"


def kinds(source, **columns):
    return {file.path.name: (file.kind, file.what) for file in look_at(source, columns)}


def test_each_file_of_a_folder_is_told(tmp_path):
    (tmp_path / "papers.csv").write_text(PAPERS)
    (tmp_path / "cites.csv").write_text(",source,target\n0,1,2\n")
    (tmp_path / "pairs.jsonl").write_text('{"citing": 1, "cited": 2}\n')
    (tmp_path / "edges.tsv").write_text("1001\t1002\n1002\t1003\n")
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "other.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / ".hidden").write_text("a")
    found = kinds(tmp_path)
    assert found == {
        "papers.csv": (
            "papers",
            "paper_id is `Paper_ID`, title is `Title`, abstract is `Abstract`, year is `Year`",
        ),
        "cites.csv": ("citations", "source cites target"),
        "pairs.jsonl": ("citations", "citing cites cited"),
        "edges.tsv": ("citations", "column 1 cites column 2"),
        "notes.txt": ("other", "the ending says no format that is read"),
        "empty.csv": ("other", "it is empty."),
        "other.csv": (
            "other",
            "no column has a name known for `paper_id` or `title`; it has `x`, `y`, `z`. Say which "
            "one it is: --map paper_id=COLUMN --map title=COLUMN.",
        ),
    }


def test_formats_of_papers_alone_are_known(tmp_path):
    (tmp_path / "mine.bib").write_text("@article{a, title = {One}, year = 2001}\n")
    (file,) = look_at(tmp_path)
    assert (file.kind, file.what, file.references) == ("papers", "BibTeX entries", False)


def test_the_first_three_papers_are_kept(tmp_path):
    (tmp_path / "papers.csv").write_text(PAPERS)
    (file,) = look_at(tmp_path / "papers.csv")
    assert [paper.title for paper in file.papers] == ["One", "Two", "Three"]
    assert not file.references


def test_columns_that_are_named_are_used(tmp_path):
    (tmp_path / "p.csv").write_text("number,headline\n1,One\n")
    assert kinds(tmp_path, paper_id="number", title="headline") == {
        "p.csv": ("papers", "paper_id is `number`, title is `headline`")
    }
    (tmp_path / "p.csv").write_text("x,y\n1,2\n")
    assert kinds(tmp_path, citing="y", cited="x") == {"p.csv": ("citations", "y cites x")}


def test_references_in_rows_and_malformed_rows_are_told(tmp_path):
    work = {"id": "https://openalex.org/W1", "display_name": "A", "referenced_works": ["W2"]}
    (tmp_path / "w.jsonl").write_text(f"{json.dumps(work)}\n{{broken\n")
    (file,) = look_at(tmp_path)
    assert file.references
    assert file.what == "OpenAlex works; 1 of the first 2 rows are malformed"


def test_papers_may_cite_where_their_format_or_a_column_says_so(tmp_path):
    file = tmp_path / "p.jsonl"
    for row, cites in (
        ({"id": 1, "title": "One", "references": []}, True),
        ({"id": 1, "title": "One"}, False),
        ({"id": "https://openalex.org/W1"}, True),
    ):
        file.write_text(json.dumps(row))
        assert may_cite(file, {}) is cites
    file.write_text('{"id": 1, "title": "One", "refs": []}')
    assert may_cite(file, {"references": "refs"})
    assert not may_cite(tmp_path / "none.jsonl", {})


def test_nothing_to_look_at_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file in this folder"):
        look_at(tmp_path)
    with pytest.raises(UserError, match="there is no such file or folder"):
        look_at(tmp_path / "x")
