import json

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.semantic_scholar import SemanticScholar
from sciembed_train.corpus.validation import read_paper

SHA, OTHER = "a" * 40, "b" * 40
API = {
    "paperId": SHA,
    "corpusId": 17,
    "externalIds": {"DOI": "10.1/X", "ArXiv": "1706.03762", "PubMed": "5", "DBLP": "conf/x"},
    "title": "One",
    "abstract": None,
    "year": 2017,
    "tldr": {"text": "short"},
    "references": [{"paperId": OTHER, "title": "Two"}, {"paperId": None, "title": "unknown"}],
    "citations": [{"paperId": "c" * 40}],
}
PAPERS = {
    "corpusid": 17,
    "externalids": {"DOI": "10.1/X", "ArXiv": None, "CorpusId": "17"},
    "url": f"https://www.semanticscholar.org/paper/{SHA}",
    "title": "One",
    "year": 2017,
    "citationcount": 3,
}
ABSTRACTS = {
    "corpusid": 17,
    "openaccessinfo": {"externalids": {"PubMedCentral": None, "DOI": "10.1/x"}, "license": None},
    "abstract": "Text.",
    "updated": "2022-01-01",
}
TEXT = "One title\nFirst part. Second part.\nBody."
ANNOTATIONS = {
    "title": [{"start": 0, "end": 9}],
    "abstract": [{"start": "10", "end": "21"}, {"start": 22, "end": 34}],
    "bibref": [{"start": 1, "end": 2, "attributes": {"ref_id": "b0"}}],
    "bibentry": [
        {"start": 1, "end": 2, "attributes": {"id": "b0", "matched_paper_id": 99}},
        {"start": 1, "end": 2, "attributes": {"id": "b1", "matched_paper_id": 99}},
        {"start": 1, "end": 2, "attributes": {"id": "b2"}},
        {"start": 1, "end": 2, "attributes": None},
    ],
    "paragraph": None,
}
S2ORC = {
    "corpusid": 17,
    "externalids": {"doi": "10.1/x", "mag": "7"},
    "content": {
        "source": {"pdfurls": None},
        "text": TEXT,
        "annotations": {k: v if v is None else json.dumps(v) for k, v in ANNOTATIONS.items()},
    },
}


def read(row):
    return read_paper(SemanticScholar().paper(row))


@pytest.mark.parametrize("row", [API, PAPERS, ABSTRACTS, S2ORC, {"citedPaper": API}])
def test_the_records_are_recognised(row):
    assert SemanticScholar().recognises(row)


def test_a_paper_of_the_api_has_other_ids_references_and_citations():
    for row in (API, {"citedPaper": API, "contexts": ["..."]}, {"citingPaper": API}):
        paper = read(row)
        assert (paper.paper_id, paper.title, paper.abstract, paper.year) == (SHA, "One", "", 2017)
        assert paper.other_ids == ("corpusid:17", "doi:10.1/X", "arxiv:1706.03762", "pmid:5")
        assert paper.references == (OTHER,)
        assert paper.cited_by == ("c" * 40,)


def test_a_row_of_the_papers_dataset_is_found_by_the_id_of_its_page():
    paper = read(PAPERS)
    assert (paper.paper_id, paper.title, paper.year) == ("17", "One", 2017)
    assert paper.other_ids == ("doi:10.1/X", "corpusid:17", PAPERS["url"])
    assert not paper.completes


def test_a_row_of_the_abstracts_dataset_completes_a_paper():
    paper = read(ABSTRACTS)
    assert (paper.paper_id, paper.abstract, paper.completes) == ("17", "Text.", True)


@pytest.mark.parametrize("spelled", [True, False])
def test_title_and_abstract_of_s2orc_are_cut_out_of_the_text(spelled):
    row = S2ORC
    if not spelled:
        row = {"corpusid": 17, "content": {"text": TEXT, "annotations": ANNOTATIONS}}
    paper = read(row)
    assert (paper.title, paper.abstract) == ("One title", "First part. Second part.")
    assert paper.references == ("99",)
    assert not paper.completes


def test_the_newer_s2orc_has_the_bibliography_apart():
    bibliography = {"text": "", "annotations": {"bib_entry": ANNOTATIONS["bibentry"]}}
    body = {"text": TEXT, "annotations": {"abstract": ANNOTATIONS["abstract"]}}
    row = {"corpusid": 17, "title": "One", "body": body, "bibliography": bibliography}
    paper = read(row)
    assert (paper.title, paper.abstract) == ("One", "First part. Second part.")
    assert paper.references == ("99",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "no id"}, "there is no paperId"),
        ({**API, "paperId": None}, "paper_id has a wrong type"),
        ({**API, "externalIds": ["x"]}, "externalIds has a wrong type"),
        ({**API, "references": 7}, "references has a wrong type"),
        ({**API, "title": ["x"]}, "title has a wrong type"),
        ({"corpusid": 1, "content": "text"}, "the full text has a wrong type"),
        ({"corpusid": 1, "content": {"text": None}}, "the full text has a wrong type"),
        (
            {"corpusid": 1, "content": {"text": "a", "annotations": {"title": "nonsense"}}},
            "annotations have a wrong type",
        ),
        (
            {"corpusid": 1, "content": {"text": "a", "annotations": {"title": [{"start": 1}]}}},
            "annotations have a wrong type",
        ),
        (
            {"corpusid": 1, "content": {"text": "a", "annotations": {"bibentry": [7]}}},
            "annotations have a wrong type",
        ),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason


def test_a_table_with_the_column_paper_id_may_list_references_in_a_text():
    assert read({"paperId": "1", "title": "a", "references": "2; 3"}).references == ("2", "3")
