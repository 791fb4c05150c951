from pathlib import Path

import numpy as np

from sciembed_train.hard_negatives.mining_summary import Mined, MiningSummary, ScoreSpread


def summary(two_hop=True):
    papers = np.array([[3, 4], [5, -1], [-1, -1]])
    scores = np.array([[0.5, 0.25], [0.75, 0.0], [0.0, 0.0]], np.float32)
    counts = np.array([[1, 2, 3, 4, 5, 6, 7, 10, 8, 1], [1, 0, 0, 1, 0, 0, 0, 10, 9, 0]])
    return MiningSummary.of(papers, scores, np.array([0.5, 0.75, 1.0]), counts, two_hop)


def test_negatives_and_what_was_left_out_are_counted():
    found = summary()
    assert (found.queries, found.full, found.without) == (3, 1, 1)
    assert (found.negatives.count, found.negatives.mean) == (3, 0.5)
    assert (found.passed_over, found.too_similar, found.two_hop) == (20, 17, 1)
    assert found.related == {
        **{"positive": 2, "cites": 3, "cited_by": 5},
        **{"cocited": 5, "same_title": 6, "same_text": 7},
    }
    assert summary(two_hop=False).two_hop is None


def test_a_spread_has_mean_median_and_twentieths():
    scores = np.arange(101.0)
    assert ScoreSpread.of(scores) == ScoreSpread(101, 50.0, 5.0, 50.0, 95.0)
    assert ScoreSpread.of(scores[:0]) == ScoreSpread(0, 0.0, 0.0, 0.0, 0.0)


def test_the_table_says_all_of_it():
    text = str(Mined(Path("corpus/negatives/own"), "own", 2, 1, summary()))
    assert "at most 2 negatives of each of 3 queries" in text
    assert "1 queries were done already" in text
    assert "negatives              3   0.500" in text
    assert "1 with all negatives, 1 with fewer, 1 with none" in text
    assert "5 citing it" in text
    assert "20 passed over as the very nearest, 17 more similar" in text
