import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.unarxive import UnarXive
from sciembed_train.corpus.validation import read_paper


def entry(**ids):
    empty = dict.fromkeys(("open_alex_id", "pubmed_id", "pmc_id", "doi", "arxiv_id"), "")
    return {"bib_entry_raw": "A. Roe", "ids": {**empty, **ids}}


PAPER = {
    "paper_id": "2212.00001",
    "metadata": {
        "id": "2212.00001",
        "title": "A title\n  with $\\alpha$",
        "doi": "10.1/x",
        "versions": [{"version": "v1", "created": "Thu, 22 Dec 2022 16:11:33 GMT"}],
        "authors_parsed": [["Roe", "A.", ""]],
    },
    "abstract": {"section": "Abstract", "text": "  Of $x$\n{{cite:a}} here.", "cite_spans": []},
    "body_text": [{"section": "Introduction", "text": "Body.", "cite_spans": []}],
    "bib_entries": {
        "a": entry(open_alex_id="https://openalex.org/W1", doi="10.1/y"),
        "b": entry(arxiv_id="1706.03762", doi="10.1/z"),
        "c": entry(open_alex_id="https://openalex.org/W2"),
        "d": entry(doi="https://doi.org/10.1/q"),
        "e": entry(),
        "f": None,
    },
    "ref_entries": {},
}


def read(row):
    return read_paper(UnarXive().paper(row))


def test_a_paper_has_plain_texts_and_one_id_of_every_work_that_was_recognised():
    assert UnarXive().recognises(PAPER)
    paper = read(PAPER)
    assert (paper.paper_id, paper.year, paper.other_ids) == ("2212.00001", 2022, ("doi:10.1/x",))
    assert "$" not in paper.title + paper.abstract
    assert paper.title.startswith("A title with ")
    assert paper.abstract == "Of x here."
    assert paper.references == (
        *("doi:10.1/y", "arxiv:1706.03762", "https://openalex.org/W2", "https://doi.org/10.1/q"),
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"paper_id": 1.5}, "paper_id has a wrong type"),
        ({"metadata": "text"}, "metadata has a wrong type"),
        ({"bib_entries": []}, "bib_entries has a wrong type"),
        ({"body_text": 7}, "body_text has a wrong type"),
    ],
)
def test_what_is_of_a_wrong_type_is_told(change, reason):
    with pytest.raises(BadRow) as bad:
        read({**PAPER, **change})
    assert bad.value.reason == reason


def test_a_record_without_an_id_is_told():
    with pytest.raises(BadRow, match="there is no paper_id"):
        read({key: value for key, value in PAPER.items() if key != "paper_id"})
