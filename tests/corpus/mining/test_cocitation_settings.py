import numpy as np
import pytest

from sciembed_train.corpus.mining.cocitation_settings import (
    CocitationMining,
    sentences_of,
    usable_papers,
)
from sciembed_train.corpus.papers import Papers


@pytest.mark.parametrize(
    ("text", "group", "reason"),
    [
        ("one two three", 0, "fewer than 5 words (min_words)"),
        ("one " * 12, 0, "more than 10 words (max_words)"),
        ("one two three four five", 4, "cites more than 3 papers (max_group)"),
        ("one two three four five", 3, "no bracket (require_bracket)"),
        ("one two three four (five)", 3, None),
        ("one two three four [5]", 0, None),
    ],
)
def test_a_context_is_refused_with_the_name_of_the_setting(text, group, reason):
    mining = CocitationMining(max_group=3, max_words=10, require_bracket=True)
    assert mining.refuses(text, group) == reason


def test_only_settings_on_abstracts_filter_abstracts():
    assert not CocitationMining().filters_abstracts
    assert CocitationMining(min_sentences=1).filters_abstracts
    assert CocitationMining.faithful().filters_abstracts
    mining = CocitationMining(min_sentences=2, longest_sentence=3)
    assert mining.admits(["one two three", "four"])
    assert not mining.admits(["one two three four", "five"])
    assert not mining.admits(["one"])


def test_sentences_of_one_text_are_split_where_a_sentence_ends():
    text = "We say so, e.g. here. (It is 3.5 m long.) What of it? 7 more."
    assert sentences_of(text) == [
        "We say so, e.g. here.",
        "(It is 3.5 m long.",
        "What of it?",
        "7 more.",
    ]
    assert sentences_of(["One.", " ", "Two. Three."]) == ["One.", "Two. Three."]
    assert sentences_of("") == []


def test_papers_in_no_pair_have_the_number_of_their_reason():
    papers = Papers(
        list("abcd"), dict(zip("abcd", range(4), strict=True)), np.array([1, 0, 1, 1], bool)
    )
    mining = CocitationMining(min_sentences=2)
    abstracts = ["One. Two.", "One. Two.", ["One."], ["One.", "Two."]]
    assert usable_papers(papers, CocitationMining(), []).tolist() == [0, 1, 0, 0]
    papers.exclude(np.array([0, 0, 0, 1], bool))
    assert usable_papers(papers, mining, abstracts).tolist() == [0, 1, 3, 2]
