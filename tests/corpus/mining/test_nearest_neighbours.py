import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.mining.nearest_neighbours import nearest_neighbours


def plain(vectors, papers, query, kept):
    """Neighbours of a query by sorting every score, equal ones by their place."""
    scores = [(-int(vectors[p] @ vectors[query]), i) for i, p in enumerate(papers) if p != query]
    places = [place for _, place in sorted(scores)][:kept]
    return places + [-1] * (kept - len(places))


@st.composite
def worlds(draw):
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    # Few values, so that many scores are equal and some vectors are the same.
    vectors = rng.integers(-2, 3, (n, draw(st.integers(1, 4)))).astype(np.float32)
    papers = np.flatnonzero(rng.random(n) < 0.8)
    queries = rng.permutation(n)[: draw(st.integers(1, n))]
    return vectors, papers, queries, draw(st.integers(1, 12))


@settings(deadline=None)
@given(worlds(), st.integers(1, 7), st.integers(1, 9))
def test_neighbours_are_those_of_a_plain_sort_in_any_block_and_tile(world, block, tile):
    vectors, papers, queries, kept = world
    rows = 0
    for where, places in nearest_neighbours(vectors, papers, queries, kept, block, tile):
        for query, found in zip(queries[where], places.tolist(), strict=True):
            assert found == plain(vectors, papers, query, kept)
            rows += 1
    assert rows == len(queries)


def test_a_twin_of_the_query_is_kept_and_the_query_left_out():
    """The original drops the first column, which of equal vectors may be another paper."""
    vectors = np.array([[3, 0], [3, 0], [3, 0], [0, 3]], np.float32)
    papers = np.arange(4)
    ((_, places),) = nearest_neighbours(vectors, papers, papers, 3)
    assert places.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
