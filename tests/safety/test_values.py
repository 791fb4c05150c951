import math

import pytest

from sciembed_train.safety import values


@pytest.mark.parametrize(
    ("check", "passing", "refused"),
    [
        (values.whole(1, 9), [1, 9], [0, 10, 1.0, True, "1", None, [1]]),
        (values.number(0, 1), [0, 0.5, 1], [-0.1, 1.1, math.nan, math.inf, True, "0.5", None]),
        (values.flag, [True, False], [0, 1, "true", None]),
        (values.word, ["BertModel", "p2c", ""], ["../x", "a\nb", "http://x:1", 1, None]),
        (values.text, ["[CLS]", ""], ["x" * 10_001, 1, None]),
        (values.one_of("a", "b"), ["a"], ["c", None, 1, ["a"]]),
        (values.optional(values.flag), [None, True], ["x", 0]),
        (values.several(values.whole(0, 9)), [3, [1, 2], []], [[1, 10], "x", [[1]], [1] * 1001]),
        (
            values.table(values.number(0, 9)),
            [{}, {"a": 1}, {"a": {"b": 2}}],
            [{"a": "x"}, {"a": {"b": "x"}}, [], 1, {"../a": 1}],
        ),
    ],
)
def test_a_check_lets_what_fits_pass_and_names_what_it_expects(check, passing, refused):
    assert [check(value) for value in passing] == [None] * len(passing)
    for value in refused:
        assert check(value), value


def test_entries_are_found_at_any_depth():
    content = {"a": 1, "b": [{"c": {"d": 2}}, 3]}
    found = {path: value for path, _, value in values.entries(content)}
    assert found["a"] == 1
    assert found["b.0.c.d"] == 2
    assert len(found) == 4
