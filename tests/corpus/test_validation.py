import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord
from sciembed_train.corpus.validation import (
    Paper,
    missing_field,
    read_id,
    read_paper,
    repeated_id,
)


def test_ids_are_text_and_integers_their_digits():
    assert read_id(" a b ", "citing") == "a b"
    assert read_id(7, "citing") == read_id("7", "citing") == "7"
    assert read_id(-1, "citing") == "-1"
    assert read_id(7.0, "citing") == "7"  # a table with empty cells makes its numbers so


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "`citing` is null; expected text or an integer."),
        (1.5, "`citing` is the number 1.5; expected text or an integer."),
        (True, "`citing` is true (true or false); expected text or an integer."),
        (["a"], "`citing` is a list of 1; expected text or an integer."),
        ({"a": 1}, "`citing` is an object with 'a'; expected text or an integer."),
        ("  ", "`citing` is empty; expected a paper id."),
        (float("nan"), "`citing` is empty; expected a paper id."),
        ("\ud800", "`citing` holds half of a surrogate pair"),
    ],
)
def test_what_is_no_id_is_told(value, message):
    with pytest.raises(BadRow) as error:
        read_id(value, "citing")
    result = error.value
    assert result.message.startswith(message)


def test_papers_may_lack_texts_and_have_sentences():
    assert read_paper(PaperRecord(1, "t")) == Paper("1", "t", "")
    assert read_paper(PaperRecord("1", None, None)) == Paper("1", "", "")
    nan = float("nan")  # what tables write for a missing text
    assert read_paper(PaperRecord("1", nan, nan)) == Paper("1", "", "")
    assert read_paper(PaperRecord("1", "t", ["a", "", None, "b"])) == Paper("1", "t", ("a", "b"))


@pytest.mark.parametrize(
    ("value", "year"),
    [
        *((2017, 2017), (2017.0, 2017), ("2017-05-01", 2017), ("May 2017", 2017), ("20171", None)),
        *((None, None), (float("nan"), None), (17, None), ("", None), (True, None), (1e300, None)),
    ],
)
def test_a_year_is_read_from_numbers_and_dates(value, year):
    assert read_paper(PaperRecord("1", "t", year=value)).year == year


def test_references_without_an_id_are_left_out():
    paper = read_paper(PaperRecord("1", "t", references=[None, 7, "b", " ", 2.0]))
    assert paper.references == ("7", "b", "2")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"paper_id": "1", "title": 17}, "`title` is the number 17; expected text or null."),
        (
            {"paper_id": "1", "title": "t", "abstract": 17},
            "`abstract` is the number 17; expected text, a list of sentences, or null.",
        ),
        (
            {"paper_id": "1", "title": "t", "abstract": ["a", ["b"]]},
            "sentence 2 of `abstract` is a list of 1; expected text.",
        ),
        (
            {"paper_id": "1", "title": "t", "abstract": {"x": "y"}},
            "`abstract` is an object with 'x'; expected text, a list of sentences, or null.",
        ),
        (
            {"paper_id": "1", "title": "\udc00"},
            "`title` holds half of a surrogate pair (\\ud800 to \\udfff), no character.",
        ),
        (
            {"paper_id": "1", "title": "", "abstract": ["fine", "\udc00"]},
            "`abstract` holds half of a surrogate pair (\\ud800 to \\udfff), no character.",
        ),
    ],
)
def test_a_malformed_paper_is_told(row, message):
    with pytest.raises(BadRow) as error:
        read_paper(PaperRecord(**row))
    result = error.value
    assert result.message == message


def test_a_missing_field_and_a_repeated_id_are_reported():
    assert missing_field("title", {}).message == "there is no `title`; the fields are none."
    bad = missing_field("score", {"a": 1, "b": 2}, " of candidate 3")
    assert bad.message == "there is no `score` of candidate 3; the fields are a, b."
    message = repeated_id("x", "p.jsonl:1", "paper").message
    assert message == "`paper_id` 'x' was given before, at p.jsonl:1; every paper has its own."
