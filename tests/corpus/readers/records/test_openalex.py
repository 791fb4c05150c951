import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.openalex import OpenAlex, abstract_of

WORK = {
    "id": "https://openalex.org/W2741809807",
    "doi": "https://doi.org/10.7717/peerj.4375",
    "display_name": "The state of OA",
    "publication_year": 2018,
    "ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/29456894", "mag": "2741809807"},
    "abstract_inverted_index": {"Despite": [0], "growing": [1, 3], "interest": [2]},
    "referenced_works": ["https://openalex.org/W1560783210", "https://openalex.org/W17"],
}


def test_a_work_is_read_with_its_other_ids_and_references():
    assert OpenAlex().recognises(WORK)
    paper = OpenAlex().paper(WORK)
    assert paper.paper_id == "W2741809807"
    assert (paper.title, paper.year) == ("The state of OA", 2018)
    assert paper.abstract == "Despite growing interest growing"
    assert paper.other_ids == [
        "https://doi.org/10.7717/peerj.4375",
        "pmid:29456894",
        "mag:2741809807",
    ]
    assert paper.references == ["W1560783210", "W17"]


def test_a_work_may_lack_abstract_title_and_references():
    paper = OpenAlex().paper({"id": "https://openalex.org/W1", "title": "older name"})
    assert (paper.title, paper.abstract, paper.references) == ("older name", None, [])


def test_a_row_of_a_table_spells_lists_as_text():
    row = {
        "id": "https://openalex.org/W1",
        "title": "One",
        "referenced_works": "https://openalex.org/W2|https://openalex.org/W3",
        "abstract": "A text.",
    }
    paper = OpenAlex().paper(row)
    assert (paper.abstract, paper.references) == ("A text.", ["W2", "W3"])
    row["abstract_inverted_index"] = '{"Another": [0], "text.": [1]}'
    assert OpenAlex().paper(row).abstract == "Another text."


def test_references_that_are_no_list_are_told():
    with pytest.raises(BadRow, match="referenced_works has a wrong type"):
        OpenAlex().paper({"id": "https://openalex.org/W1", "referenced_works": 7})
    with pytest.raises(BadRow, match="there is no id"):
        OpenAlex().paper({"display_name": "One"})


@pytest.mark.parametrize("index", ["text", [1], 7, {"word": 1}, {"word": ["a"]}])
def test_an_abstract_that_is_no_index_is_told(index):
    with pytest.raises(BadRow, match="abstract_inverted_index has a wrong type"):
        abstract_of(index)


def test_rows_of_other_formats_are_not_taken_for_works():
    assert not OpenAlex().recognises({"paper_id": "1", "title": "a"})
    assert not OpenAlex().recognises({"id": "W1", "title": "a"})
