import pytest

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.validation import Paper, read_id, read_paper
from sciembed_train.errors import UserError


def test_ids_are_text_and_integers_their_digits():
    assert read_id(" a b ", "citing") == "a b"
    assert read_id(7, "citing") == read_id("7", "citing") == "7"
    assert read_id(-1, "citing") == "-1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "`citing` is null; expected text or an integer."),
        (1.0, "`citing` is the number 1.0; expected text or an integer."),
        (True, "`citing` is true (true or false); expected text or an integer."),
        (["a"], "`citing` is a list of 1; expected text or an integer."),
        ({"a": 1}, "`citing` is an object with 'a'; expected text or an integer."),
        ("  ", "`citing` is empty; expected a paper id."),
        ("\ud800", "`citing` holds half of a surrogate pair"),
    ],
)
def test_what_is_no_id_is_told(value, message):
    found = read_id(value, "citing")
    assert isinstance(found, BadRow)
    assert found.message.startswith(message)


def test_papers_may_lack_texts_and_have_sentences():
    assert read_paper({"paper_id": 1, "title": "t", "year": 2}) == Paper("1", "t", "")
    assert read_paper({"paper_id": "1", "title": None, "abstract": None}) == Paper("1", "", "")
    nan = float("nan")  # what tables write for a missing text
    assert read_paper({"paper_id": "1", "title": nan, "abstract": nan}) == Paper("1", "", "")
    row = {"paper_id": "1", "title": "t", "abstract": ["a", "", None, "b"]}
    assert read_paper(row) == Paper("1", "t", ("a", "b"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "t"}, "there is no `paper_id`; the fields are title."),
        ({"paper_id": "1"}, "there is no `title`; the fields are paper_id."),
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
    found = read_paper(row)
    assert isinstance(found, BadRow)
    assert found.message == message


def test_malformed_rows_are_refused_above_the_budget_with_the_first_of_each_kind():
    audit = Audit("papers", max_bad_rows=2)
    audit.rows = 20113
    audit.bad(BadRow("x", "`abstract` is the number 17; expected text."), "p.jsonl:1042")
    audit.check()
    for line in (1050, 1051):
        audit.bad(BadRow("x", "other"), f"p.jsonl:{line}")
    with pytest.raises(UserError) as refused:
        audit.check()
    assert str(refused.value) == (
        "p.jsonl:1042: `abstract` is the number 17; expected text. 3 of 20,113 rows are like "
        "this. Correct them, or skip them with --max-bad-rows 3 (in fit --data.max_bad_rows 3)."
    )
    audit.bad(BadRow("y", "there is no `title`."), "p.jsonl:7")
    with pytest.raises(UserError) as refused:
        audit.check()
    assert str(refused.value).splitlines()[1:] == [
        "p.jsonl:7: there is no `title`. 1 of 20,113 rows is like this.",
        "Correct them, or skip them with --max-bad-rows 4 (in fit --data.max_bad_rows 4).",
    ]


def test_the_account_counts_all_and_lists_a_few():
    audit = Audit("citations")
    for line in range(50):
        audit.drop("given before", f"c.csv:{line}")
    told = audit.as_dict()["dropped"]["given before"]
    assert told["count"] == 50
    assert told["examples"] == [f"c.csv:{line}" for line in range(20)]
