import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.text import normalise
from sciembed_train.text.cleaning import cleaned
from sciembed_train.text.normalise import PART, normalised, paper_number, text_number


def test_a_text_is_its_letters_and_digits_without_regard_to_case():
    assert normalised("The  Éffect of H2O: a Study.") == "theéffectofh2oastudy"
    assert normalised("E\u0301ffect") == normalised("éffect")
    assert normalised("ﬁeld") == normalised("field")
    assert normalised("...") == normalised(None) == normalised("\u200b\ufeff") == ""


def test_texts_that_differ_in_punctuation_alone_share_a_number():
    assert text_number("A study!") == text_number("a  STUDY")
    assert text_number("a study") != text_number("another study")
    assert text_number("...") == text_number(None) == text_number() == 0


def test_vowel_signs_are_letters_of_their_script():
    assert text_number("कि") != text_number("का")
    assert text_number("❤\ufe0f heart") == text_number("heart")


def test_sentences_of_a_list_are_the_same_text_as_the_abstract_in_one():
    whole = paper_number("A title", "One sentence. Another one.")
    assert whole == paper_number("a title.", ["One sentence.", "Another one."])
    assert whole == text_number("A title One sentence. Another one.")
    assert whole != paper_number("A title", "One sentence.")
    assert paper_number(None, None) == paper_number("", []) == 0


@given(st.text(), st.text())
def test_spaces_and_punctuation_between_words_change_no_number(one, other):
    assert text_number(one, other) == text_number(one + " ", f"  {other}\n")


@pytest.mark.parametrize("gap", [" ", "   "])
def test_a_long_text_is_the_same_whatever_its_spaces(gap):
    words = [f"word{i}" for i in range(PART // 4)]
    assert text_number(gap.join(words)) == text_number(" ".join(words))
    assert text_number(gap.join(words)) != text_number(" ".join(words[:-1]))


@given(st.text(st.characters(max_codepoint=127)))
def test_the_quick_way_of_ascii_is_the_rule(text):
    folded = unicodedata.normalize("NFKC", cleaned(text)).casefold()
    assert normalised(text) == normalise._NOT_ALPHANUMERIC.sub(normalise._marks, folded)
