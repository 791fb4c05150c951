import pytest

from sciembed_train.errors import UserError
from sciembed_train.hard_negatives.mine_settings import MineSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either --model or --vectors"),
        ({"model": "m", "vectors": "v.npy"}, "either --model or --vectors"),
        ({"model": "m", "count": 0}, "--count must be 1 or more"),
        ({"model": "m", "queries_at_once": 0}, "--queries-at-once must be 1 or more"),
        ({"model": "m", "margin": 0.0}, "--margin must be above 0"),
        ({"model": "m", "margin": 1.1}, "--margin must be above 0"),
        ({"model": "m", "ranks": "200:10"}, "--ranks is '200:10'"),
        ({"model": "m", "ranks": "10"}, "--ranks is '10'"),
        ({"model": "m", "name": "../out"}, "--name '../out'"),
        ({"model": "m", "name": ".hidden"}, "--name '.hidden'"),
    ],
)
def test_what_is_out_of_range_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MineSettings("corpus", **settings)


def test_the_window_of_ranks_is_read():
    assert MineSettings("c", "m").window == (10, 200)
    assert MineSettings("c", "m", ranks="0:5").window == (0, 5)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model": "models/my encoder"}, "my-encoder"),
        ({"model": "checkpoints/own/export"}, "own"),
        ({"model": "owner/all-MiniLM-L6-v2"}, "all-MiniLM-L6-v2"),
        ({"vectors": "some/vectors.npy"}, "vectors"),
        ({"model": "m", "name": "named"}, "named"),
    ],
)
def test_negatives_are_named_after_what_ranked(settings, name):
    assert MineSettings("corpus", **settings).negatives_name == name
