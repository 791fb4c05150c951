"""Curves as pictures: gaps, dots, what lies beyond the axis."""

import math
import re

import pytest

from sciembed_train.training.curves import MOST, Curve, figure, limits, medians, thinned

NAN, INF = math.nan, math.inf


def places(path):
    """Pixels of a path's corners."""
    corners = re.search(r' d="M([^"]+)"', path)
    return [tuple(map(float, part.split())) for part in corners[1].split("L")]


def test_what_is_no_number_is_a_gap():
    values = [1.0, 2.0, NAN, 3.0, INF, 4.0, 5.0, NAN]
    drawn = figure("x", [Curve("train", list(enumerate(values)))], (0, 7))
    assert [len(places(path)) for path in re.findall("<path[^>]*>", drawn)] == [2, 2]
    assert re.findall("<title>(.*?)</title>", drawn) == ["step 3: 3"]  # a value alone is a dot
    assert "3 values nan or infinite: a gap" in drawn
    nothing = figure("x", [Curve("train", [(1, NAN)])], (1, 1))
    assert "<path" not in nothing
    assert "1 value nan" in nothing


def test_a_single_value_is_a_dot():
    drawn = figure("x", [Curve("val", [(7, 0.5)])], (7, 7))
    assert "<path" not in drawn
    # In the middle of the picture, whatever its value.
    assert all('cx="200.0" cy="87.0"' in dot for dot in re.findall("<circle[^>]*>", drawn))


def test_thousands_of_values_are_thinned_and_keep_their_extremes_and_gaps():
    values = [math.sin(i / 300) for i in range(20_000)]
    values[1234], values[15_001], values[8000] = 9.0, -9.0, NAN
    points = list(enumerate(values))
    kept = thinned(points)
    assert len(kept) <= MOST + 1
    assert {(1234, 9.0), (15_001, -9.0)} <= set(kept)
    assert [step for step, value in kept if math.isnan(value)] == [8000]
    assert [step for step, _ in kept] == sorted(step for step, _ in kept)
    assert thinned(points[:MOST]) == points[:MOST]
    assert len(figure("x", [Curve("train", points)], (0, 20_000))) < 20_000


def test_medians_are_those_of_each_stretch():
    points = [(i, value) for i, value in enumerate([1.0, 9.0, 2.0, NAN, 4.0, 6.0, NAN, NAN, NAN])]
    assert medians(points, 3)[:2] == [(1, 2.0), (4, 5.0)]
    assert math.isnan(medians(points, 3)[2][1])


NOISE = [1 + (i * 37 % 100) / 1000 for i in range(200)]  # 1.000 to 1.099


@pytest.mark.parametrize(
    ("values", "may_log", "expected"),
    [
        (NOISE, True, (1.0, 1.099, False)),
        ([*NOISE, 1e9], True, (1.0, 1.195, False)),  # one explosion stays outside
        ([-1e9, *NOISE], False, (0.905, 1.099, False)),
        ([*NOISE, 1.3], True, (1.0, 1.3, False)),  # not so far that it is worth it
        ([2.0**-i for i in range(200)], True, (2.0**-199, 1.0, True)),
        ([2.0**-i for i in range(20)], False, (2.0**-19, 1.0, False)),
        ([0.0, 1.0, 100.0], True, (0.0, 100.0, False)),  # no logarithm
        ([1.0] * 99 + [0.2], False, (0.2, 1.0, False)),
        ([5.0], False, (4.5, 5.5, False)),
        ([0.0, 0.0], True, (-1.0, 1.0, False)),
    ],
)
def test_an_explosion_does_not_flatten_the_rest(values, may_log, expected):
    low, high, log = limits(values, may_log)
    assert (low, high) == pytest.approx(expected[:2], rel=0.02)
    assert log == expected[2]


def test_a_value_outside_is_drawn_at_the_edge_and_told():
    drawn = figure("x", [Curve("train", list(enumerate([*NOISE[:99], 1e9])))], (0, 99))
    assert "1 value beyond the axis, up to 1e+09" in drawn
    assert min(y for _, y in places(re.findall("<path[^>]*>", drawn)[-1])) == 8.0
