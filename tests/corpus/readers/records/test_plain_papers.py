import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.plain_papers import PlainPapers, folded, listed


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"paper_id": 1, "title": "t", "abstract": "a"}, (1, "t", "a")),
        ({"Paper_ID": 1, "Title": "t", "Abstract Note": "a"}, (1, "t", "a")),
        ({"id": 1, "display_name": "t", "summary": "a"}, (1, "t", "a")),
        ({"title": "t", "doi": "10.1/x", "id": 1}, (1, "t", None)),
        ({"DOI": "10.1/x", "Article Title": "t"}, ("10.1/x", "t", None)),
        ({"name": "n", "paperId": 1, "title": "t"}, (1, "t", None)),
    ],
)
def test_columns_are_found_by_their_common_names(row, expected):
    paper = PlainPapers().paper(row)
    assert (paper.paper_id, paper.title, paper.abstract) == expected


def test_columns_that_are_named_go_first():
    row = {"id": 1, "number": 2, "title": "t", "headline": "h"}
    paper = PlainPapers({"paper_id": "number", "title": "headline"}).paper(row)
    assert (paper.paper_id, paper.title) == (2, "h")


def test_a_paper_has_a_year_other_ids_and_references():
    row = {"id": 1, "title": "t", "DOI": "10.1/x", "pmid": None, "year": 2001}
    row["references"] = [{"paperId": "a"}, {"title": "without an id"}, "b"]
    paper = PlainPapers().paper(row)
    assert (paper.year, paper.other_ids, paper.references) == (
        2001,
        ["doi:10.1/x"],
        ["a", None, "b"],
    )


def test_a_row_without_the_id_of_the_first_one_is_told():
    plain = PlainPapers()
    plain.paper({"id": 1, "title": "t"})
    with pytest.raises(BadRow, match="there is no id"):
        plain.paper({"doi": "10.1/x", "title": "t"})
    with pytest.raises(BadRow, match="there is no title"):
        plain.paper({"id": 1})


@pytest.mark.parametrize(
    ("value", "ids"),
    [("a; b;c", ["a", "b", "c"]), ("['a', 'b']", ["a", "b"]), ("", []), (None, []), ([1], [1])],
)
def test_ids_may_stand_in_a_list_or_in_a_text(value, ids):
    assert list(listed(value, "references")) == ids


def test_what_is_no_list_of_ids_is_told():
    with pytest.raises(BadRow, match="`references` is not a list"):
        listed(7, "references")


def test_names_are_compared_without_marks_and_case():
    assert folded("Paper_ID") == folded("paper id") == folded("paperId") == "paperid"
