"""Distributions as pictures: the bars stand where the numbers say."""

import re
from itertools import pairwise

import numpy as np
import pytest

from sciembed_train.report_page.bars import distribution
from sciembed_train.report_page.tally import Tally


def tally(values):
    made = Tally()
    made.add(np.array(values, np.int64))
    return made


def bars(drawn):
    """Of each bar: x, y, height and width in pixels, and what it says."""
    numbers = r'x="([\d.]+)" y="([\d.]+)" height="([\d.]+)" width="([\d.]+)"'
    found = re.findall(rf'<rect class="bar" {numbers}><title>([^<]*)</title>', drawn)
    return [(*map(float, one[:4]), one[4]) for one in found]


def test_a_bar_is_as_high_as_its_count_and_stands_at_its_number():
    drawn = distribution("Words", tally([0] * 2 + [1] * 4 + [3]), "words")
    # From 52 to 348 pixels across for 0 to 4, from 166 up to 8 for 0 to 4 papers.
    assert bars(drawn) == [
        (52.0, 87.0, 79.0, 73.0, "0 words: 2 papers"),
        (126.0, 8.0, 158.0, 73.0, "1 word: 4 papers"),
        (274.0, 126.5, 39.5, 73.0, "3 words: 1 paper"),
    ]
    assert "<b>Words</b> (7 papers): median 1, mean 1, from 0 to 3" in drawn
    labels = re.findall(r'<text x="([\d.]+)" y="183" text-anchor="middle">(\d+)', drawn)
    assert [(float(x), n) for x, n in labels] == [
        *((89.0, "0"), (163.0, "1"), (237.0, "2"), (311.0, "3"))
    ]


def test_a_heavy_tail_is_drawn_on_logarithmic_axes():
    values = [0] * 1000 + [1] * 100 + [5] * 10 + [64]
    drawn = distribution("References", tally(values), "references")
    assert "each bar twice as wide as the one before; upwards logarithmic" in drawn
    found = bars(drawn)
    assert [one[4] for one in found] == [
        "0 references: 1,000 papers",
        "1 reference: 100 papers",
        "4 to 7 references: 10 papers",
        "64 to 127 references: 1 paper",
    ]
    tops = [one[1] for one in found]
    assert tops[1] - tops[0] == pytest.approx(tops[2] - tops[1], abs=0.15)  # ten times less each
    assert found[-1][2] > 5  # a single paper is seen


def test_years_have_no_comma_and_say_what_is_not_drawn():
    years = [1] + [1990 + i % 30 for i in range(600)] + [9999]
    drawn = distribution("Year", tally(years), "")
    assert "median 2004, from 1 to 9999" in drawn
    assert "1 paper below 1990 not drawn; 1 paper above 2019 not drawn" in drawn
    assert bars(drawn)[0][4] == "1990: 20 papers"
    assert ",990" not in drawn


def test_numbers_below_the_axis_do_not_overlap():
    drawn = distribution("Words", tally(np.arange(20_000)), "words")
    assert ">10k</text>" in drawn
    # Bars of doubled width up to half a million, whose numbers are as long as they are many.
    drawn += distribution("Citations", tally([0, 1, 2, 3] * 1000 + [533_910]), "citations")
    found = re.findall(r'<text x="([\d.]+)" y="183" text-anchor="middle">([^<]+)', drawn)
    ends = [(float(x) - 3.25 * len(n), float(x) + 3.25 * len(n)) for x, n in found]
    shown = [n for _, n in found]
    after = shown.index("1")
    for part in (ends[: after - 1], ends[after - 1 :]):
        assert all(left >= right for (_, right), (left, _) in pairwise(part))
        assert part[-1][1] <= 360
    assert {"0", "1", "128"} < set(shown[after - 1 :])


def test_few_years_are_all_named_and_a_single_paper_is_seen():
    drawn = distribution("Year", tally([1991] + [1992] * 10_000 + [1994] * 5), "")
    assert re.findall(r'y="183" text-anchor="middle">(\d+)', drawn) == [
        *("1991", "1992", "1993", "1994")
    ]
    assert [one[2] for one in bars(drawn)] == [1.0, 158.0, 1.0]


def test_no_number_at_all_is_said():
    assert "<b>Tokens</b> none" in distribution("Tokens", tally([]), "tokens")


def test_names_are_text():
    drawn = distribution("<b>", tally([1]), '<img src="x">', "<p>")
    assert "<img" not in drawn
    assert "<p>" not in drawn
