import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.fields import (
    list_of,
    object_of,
    objects_of,
    one_line,
    with_prefix,
)


@pytest.mark.parametrize("row", [{}, {"a": None}, {"a": float("nan")}])
def test_null_and_an_absent_field_are_empty(row):
    assert list(object_of(row, "a")) == list(list_of(row, "a")) == list(objects_of(row, "a")) == []


def test_objects_and_lists_are_given_and_anything_else_is_told():
    assert object_of({"a": {"b": 1}}, "a") == {"b": 1}
    assert list(objects_of({"a": [{"b": 1}, None, 7]}, "a")) == [{"b": 1}]
    for read in (object_of, list_of, objects_of):
        with pytest.raises(BadRow, match="a has a wrong type"):
            read({"a": "text"}, "a")


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (" 10.1/x ", ["doi:10.1/x"]),
        (["a", None, "b"], ["doi:a", "doi:b"]),
        (7, ["doi:7"]),
        (7.0, ["doi:7"]),
        ("", []),
        (None, []),
        (float("nan"), []),
        ({"a": 1}, []),
    ],
)
def test_ids_get_their_prefix(value, ids):
    assert with_prefix("doi", value) == ids


def test_line_breaks_and_doubled_blanks_of_a_text_become_one_blank():
    assert one_line("  a\n  b  c ") == "a b c"
    assert one_line(None) is None
