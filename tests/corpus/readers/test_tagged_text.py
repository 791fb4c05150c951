import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.tagged_text import MEDLINE, RIS
from sciembed_train.errors import UserError

FILE = """Provider: a library
TY  - JOUR
AU  - Roe, A.
AU  - Doe, B.
TI  - A title
  on two lines
AB  - First - part.

Second part.
ID  -
ER  -

TY  - BOOK
TI  - Two
ER  -
"""
OF_PUBMED = """
PMID- 17
TI  - A title
      on two lines
AID - 10.1/x [doi]
AID - S1 [pii]

PMID- 18
BTI - A book
"""


def read(reader, path):
    return list(reader.rows(path, ReadOptions()))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_records_of_ris_are_rows_with_their_lines(tmp_path, line_end):
    path = tmp_path / "p.ris"
    text = FILE.removesuffix("\n") + " \n"  # with a blank, as most programs write it
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", line_end).encode())
    assert read(RIS, path) == [
        (
            2,
            {
                "PLACE": ["p.ris:2"],
                "TY": ["JOUR"],
                "AU": ["Roe, A.", "Doe, B."],
                "TI": ["A title on two lines"],
                "AB": ["First - part. Second part."],
                "ID": [""],
            },
        ),
        (13, {"PLACE": ["p.ris:13"], "TY": ["BOOK"], "TI": ["Two"]}),
    ]


def test_records_of_pubmeds_text_end_where_the_next_begins(tmp_path):
    path = tmp_path / "p.nbib"
    path.write_text(OF_PUBMED)
    (first, article), (second, book) = read(MEDLINE, path)
    assert (first, second) == (2, 8)
    assert article["TI"] == ["A title on two lines"]
    assert article["AID"] == ["10.1/x [doi]", "S1 [pii]"]
    assert (book["PMID"], book["BTI"]) == (["18"], ["A book"])


def test_a_record_without_an_end_is_a_bad_row_and_the_next_is_read(tmp_path):
    path = tmp_path / "p.ris"
    path.write_text("TY  - JOUR\nTI  - One\nTY  - JOUR\nTI  - Two\nER  - \nTY  - JOUR\nTI  - cut")
    (first, bad), (_, two), (last, cut) = read(RIS, path)
    assert (first, last) == (1, 6)
    assert two["TI"] == ["Two"]
    assert isinstance(bad, BadRow)
    assert isinstance(cut, BadRow)
    assert "no line `ER` at its end" in cut.message


def test_a_line_that_is_not_utf8_is_told_with_its_place(tmp_path):
    path = tmp_path / "p.ris"
    path.write_bytes(b"TY  - JOUR\nTI  - \xfc\nER  - \n")
    (line, bad), _ = read(RIS, path)
    assert (line, bad.reason) == (2, "not UTF-8")


@pytest.mark.parametrize("reader", [RIS, MEDLINE])
def test_a_file_without_a_record_is_refused_and_an_empty_one_has_no_rows(tmp_path, reader):
    path = tmp_path / "p.ris"
    path.write_text("<html>nothing</html>")
    with pytest.raises(UserError, match=rf"p\.ris: there is no record of {reader.name}"):
        read(reader, path)
    path.write_text("\n")
    assert read(reader, path) == []
