# ruff: noqa: RUF001 - letters of other scripts are what it is about
import unicodedata

from sciembed_train.text.tex_symbols import ACCENTS, GREEK, LETTERS, SIGNS


def test_every_command_is_letters_and_stands_for_one_character():
    for table in (GREEK, SIGNS, LETTERS):
        assert all(name.isalpha() and len(character) == 1 for name, character in table.items())
    assert GREEK["alpha"] == "α"
    assert SIGNS["leq"] == "≤"


def test_every_accent_is_a_combining_mark():
    assert all(unicodedata.combining(mark) for mark in ACCENTS.values())
