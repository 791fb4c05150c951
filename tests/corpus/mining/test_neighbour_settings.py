import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.corpus.mining.neighbour_settings import Bands, NeighbourMining
from sciembed_train.errors import UserError

REPRODUCED = NeighbourMining(reproduce=True)


def test_the_published_bands_stand_in_a_graph_of_the_published_size():
    published = Bands(positives=(20, 25), hard=(3998, 4000))
    for papers in (300_000, 10_000_000):
        assert NeighbourMining().bands(papers) == published
    for papers in (4001, 300_000):
        assert REPRODUCED.bands(papers) == published
    assert published.kept == 4000


@pytest.mark.parametrize(
    ("papers", "positives", "hard"),
    [
        (150_000, (10, 15), (1999, 2001)),
        (30_000, (2, 7), (399, 401)),
        (8921, (0, 5), (118, 120)),
        (1001, (0, 5), (100, 102)),  # not nearer than nearest_hard
        (101, (0, 5), (50, 52)),  # nor than half of the papers
        (9, (0, 5), (5, 7)),
        (6, (0, 5), (5, 5)),
        (1, (0, 0), (0, 0)),
    ],
)
def test_in_a_smaller_graph_the_ranks_are_nearer_by_the_stated_rule(papers, positives, hard):
    assert NeighbourMining().bands(papers) == Bands(positives, hard)


@given(st.integers(1, 400_000))
def test_bands_are_apart_within_the_papers_and_grow_with_them(papers):
    bands, next_ones = NeighbourMining().bands(papers), NeighbourMining().bands(papers + 1)
    assert 0 <= bands.positives[0] <= bands.positives[1] <= bands.hard[0] <= bands.hard[1]
    assert bands.hard[1] <= papers - 1
    assert next_ones.positives >= bands.positives
    assert next_ones.hard >= bands.hard
    if papers > 110:
        assert bands.positives[1] - bands.positives[0] == 5
        assert bands.hard[1] - bands.hard[0] == 2


def test_reproducing_refuses_fewer_papers_than_the_published_ranks_need():
    with pytest.raises(UserError, match=r"reproduce needs 4,001 papers .* there are 4,000\."):
        REPRODUCED.bands(4000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"per_query": 0}, "per_query must be 1 to 100; got 0"),
        ({"hard": 6}, "hard must be 0 to per_query, here 5; got 6"),
        ({"positives_from": -1}, "positives_from must be 0 or more; got -1"),
        ({"positives_to": 24}, r"hold 4 ranks \(20 to 23\), and 5 papers of a query are drawn"),
        ({"hard_to": 3999}, r"hard_from and hard_to hold 1 ranks .* and 2 papers"),
        ({"hard_from": 24, "hard_to": 30}, "hard_from is 24, among the positives"),
        ({"full_size": 0}, "full_size must be 1 or more"),
        ({"nearest_hard": -1}, "nearest_hard must be 0 or more"),
        ({"dimension": 15}, "dimension must be 16 to 4096; got 15"),
        ({"dimension": 4097}, "dimension must be 16 to 4096; got 4097"),
    ],
)
def test_a_value_out_of_its_range_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        NeighbourMining(**values)
