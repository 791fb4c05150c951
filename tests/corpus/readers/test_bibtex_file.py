import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers import bibtex_file
from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.bibtex_file import BibtexFile
from sciembed_train.errors import UserError

FILE = r"""% a comment with a bracket {
@string{jml = "Journal of " # {Machine Learning}}
@preamble{ "\newcommand{\x}{y}" }
@Comment{jabref-meta: databaseType:bibtex;}

@Article{roe2001,
  author = {Roe, A. and Doe, B.},
  Title = {The {DNA} of "all"
           things},

  journal = jml # ", part " # 2,
  year = 2001, month = jan,
  abstract = "A {"}quoted{"} text, with = and @ signs",
}
@inproceedings(doe, title = {Two (of {many})})  @misc{10.1/a(b)-3, title={Three},}
@book{empty}
"""


def read(path):
    return list(BibtexFile().rows(path, ReadOptions()))


def test_entries_are_rows_with_their_lines(tmp_path):
    (tmp_path / "p.bib").write_text(FILE)
    (first, article), (second, two), (third, three), (last, empty) = read(tmp_path / "p.bib")
    assert (first, second, third, last) == (6, 15, 15, 16)
    assert article == {
        "ENTRYTYPE": "article",
        "ID": "roe2001",
        "author": "Roe, A. and Doe, B.",
        "title": 'The {DNA} of "all" things',
        "journal": "Journal of Machine Learning, part 2",
        "year": "2001",
        "month": "jan",
        "abstract": 'A {"}quoted{"} text, with = and @ signs',
    }
    assert two == {"ENTRYTYPE": "inproceedings", "ID": "doe", "title": "Two (of {many})"}
    assert three == {"ENTRYTYPE": "misc", "ID": "10.1/a(b)-3", "title": "Three"}
    assert empty == {"ENTRYTYPE": "book", "ID": "empty"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_and_a_mark_are_tolerated(tmp_path, mark):
    (tmp_path / "p.bib").write_bytes(mark + FILE.replace("\n", "\r\n").encode())
    assert [line for line, _ in read(tmp_path / "p.bib")] == [6, 15, 15, 16]


GOOD = "@misc{good,\n title = {Good}}\n"


@pytest.mark.parametrize(
    ("broken", "line", "message"),
    [
        ("@misc{a,\n title = {A {B},\n}\n", 3, "never closed"),
        ('@misc{a,\n title = "A,\n}\n', 3, "in line 2 of the entry"),
        ("@misc{a,\n title = {A}},\n year = 2000\n}\n", 6, "a bracket } closes here"),
        ("@misc{title = {A}}\n", 3, "has no key; expected @misc{key, ...}"),
        ("@misc{, title = {A}}\n", 3, "has no key"),
        ("@misc{a,\n title {A}}\n", 3, "expected `name = {value}`, and there is 'title {A}}'"),
        ("@misc{a, title = }\n", 3, "`title` has no value"),
    ],
)
def test_a_broken_entry_is_one_bad_row_between_its_neighbours(tmp_path, broken, line, message):
    (tmp_path / "p.bib").write_text(GOOD + broken + GOOD.replace("good", "last"))
    rows = read(tmp_path / "p.bib")
    kept = [row["ID"] for _, row in rows if not isinstance(row, BadRow)]
    assert [key for key in kept if key != "a"] == ["good", "last"]
    ((place, bad),) = [(n, row) for n, row in rows if isinstance(row, BadRow)]
    assert place == line
    assert message in bad.message


def test_a_file_that_was_cut_is_told(tmp_path):
    (tmp_path / "p.bib").write_text(GOOD + "@misc{a,\n title = {A of")
    _, (line, bad) = read(tmp_path / "p.bib")
    assert (line, bad.reason) == (3, "not an entry")


def test_a_line_that_is_not_utf8_spoils_its_entry_alone(tmp_path):
    broken = b"@misc{a,\n title = {\xfc},\n year = 2000}\n"
    (tmp_path / "p.bib").write_bytes(GOOD.encode() + broken + GOOD.encode())
    first, (line, bad), last = read(tmp_path / "p.bib")
    assert (line, bad.reason) == (4, "not UTF-8")
    assert first[1] == last[1]


def test_a_file_without_an_entry_is_refused_and_an_empty_one_has_no_rows(tmp_path):
    (tmp_path / "p.bib").write_text("<html>no BibTeX</html>")
    with pytest.raises(UserError, match=r"p\.bib: there is no entry of BibTeX"):
        read(tmp_path / "p.bib")
    (tmp_path / "p.bib").write_text("\n \n")
    assert read(tmp_path / "p.bib") == []


def test_an_entry_without_end_is_refused_at_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(bibtex_file, "MAX_LINE", 1000)
    (tmp_path / "p.bib").write_text("@misc{a, title = {" + "word\n" * 1000)
    with pytest.raises(UserError, match=r"p\.bib:1: an entry of more than"):
        read(tmp_path / "p.bib")
