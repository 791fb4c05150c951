import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.arxiv import Arxiv
from sciembed_train.corpus.validation import read_paper

PAPER = {
    "id": "0704.0001",
    "title": "A title\n  of two lines",
    "doi": "10.1/a 10.1/b",
    "categories": "hep-ph",
    "abstract": "  A text\nof  lines.\n",
    "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}],
    "update_date": "2008-11-26",
    "authors_parsed": [["Roe", "A.", ""]],
}


def read(row):
    return read_paper(Arxiv().paper(row))


def test_a_paper_has_its_texts_on_one_line_and_the_year_of_its_first_version():
    assert Arxiv().recognises(PAPER)
    paper = read(PAPER)
    assert (paper.paper_id, paper.title) == ("0704.0001", "A title of two lines")
    assert (paper.abstract, paper.year) == ("A text of lines.", 2007)
    assert paper.other_ids == ("doi:10.1/a", "doi:10.1/b")


def test_a_paper_may_lack_a_doi_and_versions():
    paper = read({"id": "hep-th/9901001", "title": "t", "doi": None, "update_date": "2008-11-26"})
    assert (paper.year, paper.other_ids) == (2008, ())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "no id"}, "there is no id"),
        ({**PAPER, "title": 7}, "title has a wrong type"),
        ({**PAPER, "versions": "v1"}, "versions has a wrong type"),
        ({**PAPER, "id": ""}, "paper_id is empty"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
