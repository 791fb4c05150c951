import math

import pytest
import torch

from sciembed_train.batch import DevPairs, DevPairSource, PaperBatch, TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.methods.heldout.heldout_pairs import HeldOutPairs
from sciembed_train.methods.nested import NestedLoss


class Fixed(Encoder):
    """An encoder that gives each text the vector its one token names."""

    def __init__(self, table):
        torch.nn.Module.__init__(self)
        self.table = table

    def forward(self, rows):
        return self.table[rows.ids]


NONE = torch.empty(0, 2, dtype=torch.int64)


def source(name, anchor, positive, weight=1.0, excluded=NONE, back=NONE):
    anchor, positive = torch.tensor(anchor), torch.tensor(positive)
    return DevPairSource(name, weight, anchor, positive, excluded, back, positive.unique())


def scores(table, *sources, encoded=None, temperature=0.1, nested=None):
    held_out = HeldOutPairs(lambda: temperature, nested)
    slots = torch.arange(len(table)) if encoded is None else torch.tensor(encoded)
    for part in slots.split(2):
        held_out.add(Fixed(table), PaperBatch(TokenRows(part, torch.ones_like(part)), part))
    return held_out.scores(DevPairs(sources, len(table)), torch.device("cpu"))


def test_pairs_that_are_nearest_are_right_and_ties_are_misses():
    table = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    found = scores(table, source("citations", [0, 1, 2], [3, 4, 5]))
    assert found["citations_accuracy"] == found["map"] == 1
    expected = math.log(1 + 2 * math.exp(-10))
    assert found["loss"] == pytest.approx(expected, rel=1e-3)
    same = scores(torch.ones(6, 3), source("citations", [0, 1, 2], [3, 4, 5]))
    assert same["citations_accuracy"] == 0
    assert same["loss"] == pytest.approx(math.log(3), abs=1e-5)
    assert same["map"] < 0.5


def test_what_is_excluded_is_not_compared():
    table = torch.eye(3, dtype=torch.float64)[
        [0, 1, 2, 1, 0, 2]
    ]  # the first two pairs are exchanged
    pairs = [0, 1, 2], [3, 4, 5]
    assert scores(table, source("citations", *pairs))["citations_accuracy"] == pytest.approx(1 / 3)
    excluded = torch.tensor([[0, 1], [1, 0]])
    masked = scores(table, source("citations", *pairs, excluded=excluded, back=excluded))
    assert masked["loss"] < scores(table, source("citations", *pairs))["loss"]


def test_the_loss_is_the_mean_by_weight_and_the_ranking_that_of_the_first_source():
    table = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = source("citations", [0, 1], [2, 3], weight=0.75)
    other = source("title_abstract", [4, 5], [6, 7], weight=0.25)
    found = scores(table, one, other)
    expected = 0.75 * found["citations_loss"] + 0.25 * found["title_abstract_loss"]
    assert found["loss"] == pytest.approx(expected)
    assert found["map"] == found["citations_map"]


def test_only_what_was_encoded_counts():
    table = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    pairs = source("citations", [0, 1, 2], [3, 4, 5])
    part = scores(table, pairs, encoded=[0, 1, 3, 4])
    assert part["loss"] == pytest.approx(math.log(1 + math.exp(-10)), rel=1e-3)
    assert part["citations_accuracy"] == 1
    assert scores(table, pairs, encoded=[0, 4]) == {}


def test_vectors_that_are_not_finite_have_no_score():
    """No comparison with nan is true: no other positive would be as near, and all be right."""
    table = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    table[4] = math.nan
    found = scores(table, source("citations", [0, 1, 2], [3, 4, 5]))
    assert found
    assert all(map(math.isnan, found.values()))


def test_a_width_ranks_the_first_source_by_the_first_numbers():
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    rows = torch.randperm(40, generator=generator).tolist()
    first = source("citations", rows[:10], rows[10:20])
    sources = first, source("title_abstract", rows[20:30], rows[30:])
    nested = NestedLoss(6, (6, 3, 1), normalize=True)
    for encoded in (None, rows[2:38]):
        whole = scores(table, *sources, encoded=encoded)
        found = scores(table, *sources, encoded=encoded, nested=nested)
        assert found["map_6"] == whole["map"]
        expected = {dim: scores(table[:, :dim], *sources, encoded=encoded) for dim in (1, 3)}
        for dim, alone in expected.items():
            assert found[f"map_{dim}"] == pytest.approx(alone["citations_map"], abs=1e-12)
        assert len({whole["map"], expected[1]["map"], expected[3]["map"]}) == 3
        assert {name: found[name] for name in whole} == whole
        assert set(found) - set(whole) == {"map_6", "map_3", "map_1"}
