import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.citations.contexts import Context, read_context


def test_a_row_is_read_with_its_ids_as_text_and_each_once():
    row = {"text": " a  b\n", "cited_ids": [7, "7", " x "], "citing_id": 3, "kind": "ignored"}
    assert read_context(row) == Context("a b", ("7", "x"), "3")
    row = {"text": "t", "cited_ids": ["a"], "citing_id": None, "before": "B.", "after": None}
    assert read_context(row) == Context("t", ("a",), "", "B.", "")


@pytest.mark.parametrize(
    ("row", "report_text"),
    [
        ({"cited_ids": ["a"]}, "there is no `text`; the fields are cited_ids."),
        ({"text": "t"}, "there is no `cited_ids`; the fields are text."),
        ({"text": None, "cited_ids": ["a"]}, "`text` is null; expected text."),
        ({"text": 5, "cited_ids": ["a"]}, "`text` is the number 5; expected text."),
        (
            {"text": "t", "cited_ids": "a"},
            """`cited_ids` is the text 'a'; expected a list of paper ids, such as ["a", "b"].""",
        ),
        ({"text": "t", "cited_ids": None}, "`cited_ids` is null; expected a list"),
        ({"text": "t", "cited_ids": '["a", '}, "`cited_ids` is the text"),
        ({"text": "t", "cited_ids": ["a", 1.5]}, "`cited_ids[1]` is the number 1.5; expected"),
        ({"text": "t", "cited_ids": ["a", " "]}, "`cited_ids[1]` is empty; expected a paper id."),
        ({"text": "t", "cited_ids": ["a"], "citing_id": 1.5}, "`citing_id` is the number 1.5"),
        ({"text": "t", "cited_ids": ["a"], "before": 2}, "`before` is the number 2"),
        ({"text": "\ud800", "cited_ids": ["a"]}, "`text` holds half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_read_names_field_and_value(row, report_text):
    with pytest.raises(BadRow) as error:
        read_context(row)
    result = error.value
    assert report_text in result.message


def test_mentions_are_a_text_or_a_list_of_texts():
    row = {"text": "t", "cited_ids": ["a"]}
    assert read_context(row | {"marker": " [ 1 ]"}) == Context("t", ("a",), mentions=("[ 1 ]",))
    mentions = read_context(row | {"marker": ["[1]", "", "[1]", "(Roe)"]}).mentions
    assert mentions == ("[1]", "(Roe)")
    for marker in (7, ["[1]", 7]):
        with pytest.raises(BadRow) as error:
            read_context(row | {"marker": marker})
        bad = error.value
        assert bad.message.startswith("`marker` is ")
