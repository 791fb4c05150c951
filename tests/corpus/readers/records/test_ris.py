import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.ris import Ris
from sciembed_train.corpus.validation import read_paper

RECORD = {
    "PLACE": ["p.ris:1"],
    "TY": ["JOUR"],
    "TI": ["One"],
    "AB": ["Text."],
    "PY": ["2001/05/03/"],
    "DO": ["10.1/x"],
    "AU": ["Roe, A.", "Doe, B."],
}


def read(row):
    return read_paper(Ris().paper(row))


@pytest.mark.parametrize(
    ("tags", "paper_id"),
    [
        ({}, "10.1/x"),
        ({"AN": ["WOS:1"]}, "WOS:1"),
        ({"AN": ["WOS:1"], "ID": ["7"]}, "7"),
        ({"DO": [], "UR": ["https://example.org/1"]}, "https://example.org/1"),
        ({"DO": [""]}, "p.ris:1"),
    ],
)
def test_the_id_is_the_first_of_several_tags_else_the_place(tags, paper_id):
    assert Ris().recognises(RECORD)
    assert read({**RECORD, **tags}).paper_id == paper_id


def test_a_record_has_title_abstract_year_and_doi():
    paper = read({**RECORD, "ID": ["7"]})
    assert (paper.title, paper.abstract, paper.year) == ("One", "Text.", 2001)
    assert paper.other_ids == ("doi:10.1/x",)
    older = {"PLACE": ["p.ris:1"], "TY": ["JOUR"], "T1": ["One"], "N2": ["Text."], "Y1": ["1999"]}
    paper = read(older)
    assert (paper.title, paper.abstract, paper.year) == ("One", "Text.", 1999)


@pytest.mark.parametrize(
    ("row", "reason"),
    [({"TY": ["JOUR"]}, "there is no ID"), ({**RECORD, "TI": "One"}, "TI has a wrong type")],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
