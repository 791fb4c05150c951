import numpy as np

from sciembed_train.text.truncation import Truncation


def test_texts_that_are_cut_and_their_tokens_are_counted():
    counted = Truncation()
    counted.add(np.array([0, 5, 10, 25]), 10)
    counted.add(np.array([30]), 10)
    assert counted == Truncation(texts=4, cut=2, tokens=70, lost=35)
    assert counted.line(12, "papers") == (
        "2 of 4 papers (50.0%) are cut at 12 tokens (max_length): 50.0% of all tokens are not read."
    )


def test_where_nothing_is_cut_it_is_said_too():
    counted = Truncation()
    assert counted.line(512) == "None of the 0 texts is longer than 512 tokens."
    counted.add(np.array([5, 10]), 10)
    assert counted.line(12) == "None of the 2 texts is longer than 12 tokens."
