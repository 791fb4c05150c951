"""Counts of numbers, and the bars that they make."""

from itertools import pairwise

import numpy as np
import pytest

from sciembed_train.report_page.tally import BARS, MOST, Bar, Tally


def tally(*batches):
    made = Tally()
    for batch in batches:
        made.add(np.array(batch, np.int64))
    return made


def test_a_tally_has_the_figures_of_its_numbers():
    values = np.random.default_rng(0).geometric(0.01, 1001)
    made = tally(values[:300], [], values[300:310], values[310:])
    assert made.total == 1001
    assert made.mean == pytest.approx(values.mean())
    assert (made.least, made.largest) == (values.min(), values.max())
    for share in (0.005, 0.25, 0.5, 0.9, 1.0):
        assert made.quantile(share) == np.quantile(values, share, method="inverted_cdf")
    assert made.between(10, 20) == ((values >= 10) & (values <= 20)).sum()
    assert tally([MOST + 5]).largest == MOST


def test_nothing_counted_makes_no_bar():
    made = tally()
    assert (made.total, made.mean, made.least, made.largest, made.quantile(0.5)) == (0,) * 5
    assert made.even_bars() == made.doubling_bars() == []


@pytest.mark.parametrize("values", [[7], [0], range(5), range(1990, 2020), range(0, 900, 7)])
def test_bars_of_one_width_hold_every_number_once(values):
    bars = tally(list(values)).even_bars()
    assert len({bar.last - bar.first for bar in bars}) == 1
    assert all(a.last + 1 == b.first for a, b in pairwise(bars))
    assert sum(bar.count for bar in bars) == len(list(values))
    assert len(bars) <= BARS + 1


def test_a_number_far_from_all_others_is_not_drawn():
    made = tally([1, *range(1990, 2020)] * 1, list(range(1990, 2020)) * 20, [9999])
    bars = made.even_bars()
    assert (bars[0].first, bars[-1].last) == (1990, 2019)
    assert sum(bar.count for bar in bars) == made.total - 2


def test_bars_of_doubled_width_reach_the_largest():
    assert tally([0, 0, 1, 2, 3, 4, 9]).doubling_bars() == [
        *(Bar(0, 0, 2), Bar(1, 1, 1), Bar(2, 3, 2), Bar(4, 7, 1), Bar(8, 15, 1))
    ]


def test_a_tail_is_heavy_where_one_number_is_many_times_the_median():
    assert tally([1] * 50, [1000]).heavy_tailed
    assert not tally([1] * 50, [9]).heavy_tailed
    assert not tally([100] * 50, [200]).heavy_tailed
