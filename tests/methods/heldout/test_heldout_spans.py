"""Scores of spans of held-out documents."""

import math

import pytest
import torch

from sciembed_train.batch import DevSpans, SpanBatch, TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.methods.heldout.heldout_spans import HeldOutSpans
from sciembed_train.methods.nested import NestedLoss


class Fixed(Encoder):
    """An encoder that gives each text the vector its one token names."""

    def __init__(self, table):
        torch.nn.Module.__init__(self)
        self.table = table

    def forward(self, rows):
        return self.table[rows.ids]


def spans(rows, documents, first=0):
    """One anchor and one positive a document, each a text of one token."""
    ids = torch.tensor(rows)
    return SpanBatch(
        TokenRows(ids, torch.ones_like(ids)),
        torch.arange(documents),
        torch.arange(documents, 2 * documents)[:, None],
        torch.empty(0, dtype=torch.int64),
        torch.empty(0, dtype=torch.int64),
        documents,
        -1,
        first,
    )


def held_out(table, *batches, nested=None):
    kept = HeldOutSpans(0.05, 1.0, 0.0, nested)
    for batch in batches:
        kept.add(Fixed(table), batch)
    return kept.scores(DevSpans(6, 1, 1), torch.device("cpu"))


def test_partner_accuracy_is_the_share_of_rows_nearest_to_their_partner():
    right = torch.eye(6)
    found = held_out(right, spans([0, 1, 2, 0, 1, 2], 3), spans([3, 4, 5, 3, 4, 5], 3, first=3))
    assert found["partner_accuracy"] == 1.0
    swapped = held_out(right, spans([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 5, 4], 6))
    assert swapped["partner_accuracy"] == pytest.approx(8 / 12)
    assert swapped["contrastive_loss"] > found["contrastive_loss"]


def test_an_encoder_that_gives_every_text_the_same_vector_scores_zero():
    found = held_out(torch.ones(6, 4), spans([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5], 6))
    assert found["partner_accuracy"] == 0.0
    assert found["contrastive_loss"] == pytest.approx(math.log(11), abs=1e-5)


def test_batches_of_another_order_give_the_same_scores():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(12, 5, generator=generator)
    one = spans([0, 1, 2, 6, 7, 8], 3)
    other = spans([3, 4, 5, 9, 10, 11], 3, first=3)
    assert held_out(table, one, other) == held_out(table, other, one)


def test_vectors_that_are_not_finite_have_no_score():
    table = torch.eye(6)
    table[3] = math.nan
    found = held_out(table, spans([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5], 6))
    assert set(found) == {"loss", "contrastive_loss", "partner_accuracy"}
    assert all(map(math.isnan, found.values()))


def test_a_width_compares_the_first_numbers_of_anchors_and_positives():
    table = torch.randn(12, 8, generator=torch.Generator().manual_seed(4))
    table[6:] = table[:6] + 0.9 * table[6:]
    batch = spans([*range(12)], 6)
    whole = held_out(table, batch)
    found = held_out(table, batch, nested=NestedLoss(8, (8, 4, 2), normalize=True))
    assert found["partner_accuracy_8"] == whole["partner_accuracy"]
    alone = {dim: held_out(table[:, :dim], batch)["partner_accuracy"] for dim in (2, 4)}
    assert found["partner_accuracy_4"] == alone[4]
    assert found["partner_accuracy_2"] == alone[2]
    assert len({whole["partner_accuracy"], *alone.values()}) == 3
    assert {name: found[name] for name in whole} == whole
