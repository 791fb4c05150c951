import pytest

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining


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
