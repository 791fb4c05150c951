import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.pubmed import PubMed
from sciembed_train.corpus.validation import read_paper

OF_XML = {
    "PMID": "17",
    "ArticleTitle": "One",
    "AbstractText": None,
    "Year": "1998 Dec-1999 Jan",
    "DOI": "10.1/x",
    "PMC": "PMC5",
    "References": ["pmid:18", "doi:10.1/y"],
}
OF_TEXT = {
    "PLACE": ["p.nbib:1"],
    "PMID": ["17"],
    "TI": ["One"],
    "AB": ["Text."],
    "DP": ["2003 Jan"],
    "LID": ["10.1/x [doi]", "S1 [pii]"],
    "AID": ["10.1/x [doi]"],
    "PMC": ["PMC5"],
}


def read(row):
    return read_paper(PubMed().paper(row))


def test_an_article_of_xml_has_its_ids_and_references():
    assert PubMed().recognises(OF_XML)
    paper = read(OF_XML)
    assert (paper.paper_id, paper.title, paper.abstract, paper.year) == ("17", "One", "", 1998)
    assert paper.other_ids == ("doi:10.1/x", "pmc:PMC5")
    assert paper.references == ("pmid:18", "doi:10.1/y")


def test_an_article_of_text_has_its_tags():
    assert PubMed().recognises(OF_TEXT)
    paper = read(OF_TEXT)
    assert (paper.paper_id, paper.title, paper.abstract, paper.year) == ("17", "One", "Text.", 2003)
    assert paper.other_ids == ("doi:10.1/x", "pmc:PMC5")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**OF_XML, "PMID": None}, "there is no PMID"),
        ({"TI": ["no id"]}, "there is no PMID"),
        ({**OF_XML, "References": "18"}, "References has a wrong type"),
        ({**OF_XML, "ArticleTitle": 7}, "title has a wrong type"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
