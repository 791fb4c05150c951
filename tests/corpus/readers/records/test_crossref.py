import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.crossref import Crossref
from sciembed_train.corpus.validation import read_paper
from sciembed_train.text.cleaning import cleaned

WORK = {
    "indexed": {"date-parts": [[2023, 1, 1]]},
    "DOI": "10.1/X",
    "title": ["A <i>title</i>", "second"],
    "abstract": "<jats:title>Abstract</jats:title><jats:p>CO<jats:sub>2</jats:sub> rose.</jats:p>",
    "issued": {"date-parts": [[2018, 2]]},
    "reference": [{"key": "1", "DOI": "10.1/Y"}, {"key": "2", "unstructured": "none"}],
    "is-referenced-by-count": 3,
}


def read(row):
    return read_paper(Crossref().paper(row))


def test_a_work_has_its_doi_as_id_and_the_dois_of_its_references():
    assert Crossref().recognises(WORK)
    paper = read(WORK)
    assert (paper.paper_id, paper.title, paper.year) == ("10.1/X", "A <i>title</i>", 2018)
    assert paper.references == ("10.1/Y",)


def test_the_heading_of_an_abstract_is_no_part_of_it():
    paper = read(WORK)
    assert paper.abstract == "<jats:p>CO<jats:sub>2</jats:sub> rose.</jats:p>"
    assert cleaned(paper.abstract) == "CO2 rose."
    of_section = "<jats:sec><jats:title>Background</jats:title><jats:p>One.</jats:p></jats:sec>"
    assert read({"DOI": "1", "abstract": of_section}).abstract == of_section


@pytest.mark.parametrize("title", [[], None, [""]])
def test_a_work_may_lack_title_date_and_references(title):
    row = {"DOI": "10.1/x", "title": title, "issued": {"date-parts": [[None]]}, "reference": None}
    paper = read(row)
    assert (paper.title, paper.abstract, paper.year, paper.references) == ("", "", None, ())


def test_an_earlier_date_stands_in_for_the_one_of_issue():
    row = {"DOI": "10.1/x", "issued": {"date-parts": [[None]]}}
    assert read({**row, "created": {"date-parts": [[2001, 1, 1]]}}).year == 2001


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": ["no id"]}, "there is no DOI"),
        ({"DOI": None}, "paper_id has a wrong type"),
        ({"DOI": "1", "title": [7]}, "title has a wrong type"),
        ({"DOI": "1", "reference": "10.1/y"}, "reference has a wrong type"),
        ({"DOI": "1", "issued": "2018"}, "issued has a wrong type"),
        ({"DOI": "1", "issued": {"date-parts": 2018}}, "date-parts has a wrong type"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
