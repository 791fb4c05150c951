"""Axes of charts: round numbers where they belong."""

import math
import re

import pytest

from sciembed_train.report_page.axis import Axis, height_lines, number, round_step, short


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 1, False), (-3e-7, 2e-5, False), (0.9, 1.1, False), (0.12, 6.3, True), (1e-9, 1e9, True)],
)
def test_an_axis_puts_round_numbers_where_they_belong(low, high, log):
    axis = Axis(low, high, 100.0, 300.0, log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    for tick in ticks:
        part = math.log(tick / low) / math.log(high / low) if log else (tick - low) / (high - low)
        assert axis.at(tick) == pytest.approx(100 + 200 * part)
        assert len(f"{tick:g}".replace("e-0", "e-").replace(".", "").lstrip("0-")) <= 5
    assert (axis.at(low - 1), axis.at(high + 1)) == (100, 300)


def test_a_line_of_the_axis_stands_at_its_number():
    drawn = height_lines(Axis(0, 4, 166, 8))
    assert [re.search(r">([^<]+)</text>", line)[1] for line in drawn[1::2]] == list("01234")
    assert [float(re.search(r'y1="([^"]+)"', line)[1]) for line in drawn[::2]] == [
        *(166, 126.5, 87, 47.5, 8)
    ]
    halves = Axis(0, 2, 166, 8)
    shown = [re.search(r">([^<]+)</text>", line)[1] for line in height_lines(halves)[1::2]]
    assert shown == ["0", "0.5", "1", "1.5", "2"]
    assert len(height_lines(halves, whole=True)) == 2 * 3


def test_numbers_are_as_short_as_a_person_reads_them():
    assert [short(value) for value in (0.5, 1990, 20_000, 2.5e6, 3e9)] == [
        *("0.5", "1990", "20k", "2.5M", "3G")
    ]
    assert [number(value) for value in (0.123456, 12.5, 123456.7)] == ["0.1235", "12.5", "123,457"]
    assert [round_step(least) for least in (0.3, 1, 1.1, 6, 23)] == [0.5, 1, 2, 10, 50]
