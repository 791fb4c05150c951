import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.hard_negatives.choice import choose, limits, positive_scores


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12), st.integers(1, 15))
def test_the_nearest_within_the_limit_are_taken_preferred_ones_before_others(
    seed, queries, width, count
):
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.integers(0, 10, (queries, width)).astype(np.float32), axis=1)
    papers = rng.permutation(queries * width).reshape(queries, width)
    ends = rng.integers(0, width + 1, queries)
    papers[np.arange(width) >= ends[:, None]] = -1
    scores[papers < 0] = -np.inf
    limit = rng.integers(0, 10, queries).astype(np.float32)
    preferred = rng.random((queries, width)) < 0.3
    chosen = choose(papers, scores, limit, count, preferred)
    for query in range(queries):
        usable = [
            place
            for place in range(width)
            if papers[query, place] >= 0 and scores[query, place] <= limit[query]
        ]
        first = [place for place in usable if preferred[query, place]]
        rest = [place for place in usable if not preferred[query, place]]
        taken = sorted((first + rest)[:count])
        assert chosen.papers[query].tolist() == papers[query, taken].tolist() + [-1] * (
            count - len(taken)
        )
        assert chosen.scores[query, : len(taken)].tolist() == scores[query, taken].tolist()
        assert (chosen.scores[query, len(taken) :] == 0).all()
        assert chosen.too_similar[query] == ends[query] - len(usable)
        assert chosen.two_hop[query] == sum(preferred[query, place] for place in taken)


def test_the_score_of_positives_is_their_mean_or_the_lowest():
    scores, query = np.array([0.5, 0.75, 0.25], np.float32), np.array([0, 1, 1])
    assert positive_scores(scores, query, 2, "mean").tolist() == [0.5, 0.5]
    assert positive_scores(scores, query, 2, "lowest").tolist() == [0.5, 0.25]


def test_a_limit_is_a_share_of_the_positives_score_and_never_above_it():
    positives = np.array([0.8, 0.0, -0.4], np.float32)
    assert limits(positives, 0.95).tolist() == pytest.approx([0.76, 0.0, -0.42])
    assert limits(positives, 1.0).tolist() == positives.tolist()
    assert (limits(positives, 0.5) <= positives).all()
