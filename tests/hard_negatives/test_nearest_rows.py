import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.hard_negatives.nearest_rows import NearestRows


def kept(scores, width, count):
    nearest = NearestRows(len(scores), count)
    for start in range(0, scores.shape[1], width):
        nearest.add(torch.from_numpy(scores[:, start : start + width].copy()), start)
    return nearest.result()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40), st.integers(1, 12))
def test_the_highest_scores_are_those_of_a_sort_of_all(seed, queries, rows, count):
    rng = np.random.default_rng(seed)
    # Few values, so that many scores are equal; some rows are none.
    scores = rng.integers(0, 8, (queries, rows)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    found, places = kept(scores, width=int(rng.integers(1, rows + 1)), count=count)
    for query in range(queries):
        order = sorted(range(rows), key=lambda row: (-scores[query, row], row))
        order = [row for row in order if scores[query, row] > -np.inf][:count]
        assert places[query].tolist() == order + [-1] * (count - len(order))
        assert found[query][: len(order)].tolist() == scores[query, order].tolist()
        assert (found[query][len(order) :] == -np.inf).all()


def test_scores_that_rise_through_all_rows_are_kept_in_bounded_memory():
    """The worst order: every tile's scores are above all before."""
    scores = np.arange(4_000, dtype=np.float32)[None].repeat(3, 0)
    nearest = NearestRows(3, 5)
    most = 0
    for start in range(0, 4_000, 100):
        nearest.add(torch.from_numpy(scores[:, start : start + 100].copy()), start)
        most = max(most, sum(len(part[0]) for part in nearest._waiting))
    assert most <= 3 * 5 * 2
    assert nearest.result()[1].tolist() == [[3999, 3998, 3997, 3996, 3995]] * 3
