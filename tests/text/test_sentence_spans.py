import numpy as np

from sciembed_train.text.sentence_spans import truncate_sentences


def test_a_truncated_text_loses_its_last_sentences_and_a_bare_title_is_one():
    # Four texts of 9, 4, 7 and 12 tokens: three sentences, none, one behind the end, two.
    starts, lengths, counts = truncate_sentences(
        np.array([1, 4, 6, 6, 2, 5]),
        np.array([3, 2, 3, 1, 3, 7]),
        np.array([3, 0, 1, 2]),
        np.array([9, 4, 7, 12]),
        max_tokens=6,
    )
    assert counts.tolist() == [2, 1, 1, 2]
    assert starts.tolist() == [1, 4, 0, 0, 2, 5]
    assert lengths.tolist() == [3, 2, 4, 6, 3, 1]
