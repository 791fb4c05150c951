from pathlib import Path
from typing import Any, Literal

import pytest

from sciembed_train.config.options import COLUMN, Option, as_word, parts


def option(key: str = "data.batch_size", kind: Any = int, default: Any = None, **more: Any):
    names = more.pop("names", (f"--{key}",))
    return Option(
        key, names, kind, default, more.pop("required", False), "what it does.", "", **more
    )


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "N"),
        (float | None, "X"),
        (Path, "PATH"),
        (bool, ""),
        (str, "BATCH_SIZE"),
        (Literal["a", "b"], "a|b"),
        (Literal["auto"] | int, "N"),
    ],
)
def test_what_stands_for_a_value_is_of_its_type(kind, value):
    assert option(kind=kind).value == value


def test_choices_are_the_literals_of_a_type():
    assert option(kind=Literal["a", "b"] | None).choices == ("a", "b")
    assert option(kind=bool).choices == ("true", "false")
    assert option(kind=int).choices == ()
    assert parts(int | None) == (int,)


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"default": 32}, "what it does. (default 32)"),
        ({"required": True, "default": 32}, "what it does. (required)"),
        ({"default": False}, "what it does."),
        ({"default": []}, "what it does."),
    ],
)
def test_the_text_says_the_default_or_that_it_is_required(given, end):
    first, *rest = option(**given).text().splitlines()
    text = " ".join([first[COLUMN:], *rest]) if first[COLUMN:] else " ".join(rest)
    assert " ".join(text.split()) == end


def test_the_short_help_has_one_name_and_the_long_one_all():
    made = option(names=("--batch_size", "--data.batch_size"))
    assert made.text(short=True).split("  ")[1] == "--batch_size N"
    assert made.text().splitlines()[0].strip() == "--batch_size, --data.batch_size N"
    assert option(names=("-n", "--number")).text(short=True).lstrip().startswith("-n, --number N")


@pytest.mark.parametrize(
    ("value", "word"), [(True, "true"), (None, "None"), ([1, 2], "[1, 2]"), (0.5, "0.5")]
)
def test_values_are_written_as_words(value, word):
    assert as_word(value) == word
