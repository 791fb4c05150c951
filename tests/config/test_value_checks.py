import math

import pytest

from sciembed_train.config.value_checks import faults, find_fault, shown


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (10**30, "a number of 31 digits"),
        (-(2**63), "a number of 19 digits"),
        (math.nan, "got nan; expected a finite number"),
        (-math.inf, "got -inf"),
        ([1.0, math.inf], "got inf"),
        ("a\nb", r"got 'a\nb'; expected a text without line ends"),
        ("a\tb", "tabs"),
        ("a\0", "zero bytes"),
        ("\x1b[2J", "the control character"),
        ("\udcff", "bytes that are no UTF-8"),
        ("x" * 300, "a name of 300 bytes; expected at most 200"),
        ("é" * 150, "a name of 300 bytes"),
        ("/".join(["x" * 100] * 50), "a path of 5,049 letters"),
        (["fine", "no\rt"], "line ends"),
    ],
)
def test_what_nothing_can_use_is_refused_on_one_line(value, fault):
    found = find_fault(value)
    assert found is not None
    assert fault in found
    assert found.isprintable()
    assert len(found) < 150


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 2**63 - 1, -1.5, "", "a b", "résumé", "/".join(["x" * 200] * 3), {"a": "b\n"}],
)
def test_everything_else_is_left_to_its_setting(value):
    assert find_fault(value) is None


def test_a_text_may_be_empty_only_where_it_is_so_by_default():
    values = {"name": "", "to": "", "lr": math.nan, "other": "", "models": ["a", ""]}
    found = dict(faults(values, empty={"name": "", "to": None}))
    assert set(found) == {"to", "lr", "models"}
    assert "an empty text" in found["to"]


def test_a_long_text_is_cut():
    assert shown("x" * 100, longest=5) == "'xxxxx...'"
