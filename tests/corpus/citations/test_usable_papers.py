import numpy as np

from sciembed_train.corpus.citations.usable_papers import sentences_of, usable_papers
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.papers import Papers


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
    assert usable_papers(papers, {"d", "unknown"}, mining, abstracts).tolist() == [0, 1, 3, 2]
    assert usable_papers(papers, set(), CocitationMining(), []).tolist() == [0, 1, 0, 0]
