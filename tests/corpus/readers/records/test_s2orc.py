import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.s2orc import S2orc
from sciembed_train.corpus.validation import read_paper


def paragraph(text):
    return {"text": text, "section": "Abstract", "cite_spans": [], "eq_spans": []}


METADATA = {
    "paper_id": "17",
    "title": "One",
    "abstract": None,
    "year": 1975,
    "doi": "10.1/x",
    "arxiv_id": None,
    "pubmed_id": "5",
    "mag_id": "7",
    "outbound_citations": ["18", "19"],
    "inbound_citations": ["20"],
}
ENTRIES = {
    "BIBREF0": {"title": "Two", "link": "18"},
    "BIBREF1": {"title": "Three", "links": "19", "other_ids": {"DOI": ["10.1/z"]}},
    "BIBREF2": {"title": "Four", "link": None, "other_ids": {"DOI": ["10.1/y"], "arXiv": []}},
    "BIBREF3": {"title": "Five", "links": None, "other_ids": {}},
    "BIBREF4": None,
}
PARSE = {
    "abstract": [paragraph("First  part."), paragraph("Second.")],
    "body_text": [paragraph("Body.")],
    "bib_entries": ENTRIES,
}
OF_2019 = {
    "paper_id": "17",
    "metadata": {"title": "One", "abstract": "As published.", "year": "2017", "doi": "10.1/x"},
    "grobid_parse": PARSE,
    "latex_parse": None,
}
OF_2020 = {"paper_id": "17", "_pdf_hash": "x", **PARSE}
OF_2021 = {"paper_id": "f" * 40, "metadata": {"title": "One", "year": "2011-11"}, **PARSE}
DOC2JSON = {"paper_id": "N18", "title": "One", "year": "", "abstract": "Text.", "pdf_parse": PARSE}


def read(row):
    return read_paper(S2orc().paper(row))


@pytest.mark.parametrize("row", [METADATA, OF_2019, OF_2020, OF_2021, DOC2JSON])
def test_every_generation_is_recognised(row):
    assert S2orc().recognises(row)


def test_metadata_has_citations_in_both_directions():
    paper = read(METADATA)
    assert (paper.paper_id, paper.title, paper.abstract, paper.year) == ("17", "One", "", 1975)
    assert paper.other_ids == ("doi:10.1/x", "pmid:5", "mag:7")
    assert (paper.references, paper.cited_by) == (("18", "19"), ("20",))


@pytest.mark.parametrize(
    ("row", "title", "abstract", "year"),
    [
        (OF_2019, "One", "As published.", 2017),
        (OF_2020, "", "First part. Second.", None),
        (OF_2021, "One", "First part. Second.", 2011),
        (DOC2JSON, "One", "Text.", None),
    ],
)
def test_of_a_full_text_title_abstract_and_bibliography_are_read(row, title, abstract, year):
    paper = read(row)
    assert (paper.title, paper.abstract, paper.year) == (title, abstract, year)
    assert paper.references == ("18", "19", "doi:10.1/y")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "no id", "outbound_citations": []}, "there is no paper_id"),
        ({**METADATA, "outbound_citations": "18"}, "outbound_citations has a wrong type"),
        ({**METADATA, "abstract": 7}, "abstract has a wrong type"),
        ({**OF_2020, "abstract": 7}, "abstract has a wrong type"),
        ({**OF_2020, "bib_entries": []}, "bib_entries has a wrong type"),
        ({**OF_2021, "metadata": "text"}, "metadata has a wrong type"),
        ({**OF_2020, "body_text": [{"text": None}]}, "a paragraph of body_text has no text"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
