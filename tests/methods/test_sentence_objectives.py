"""What the loss of sentences adds up."""

import math

import pytest
import torch

from sciembed_train.errors import UserError
from sciembed_train.methods.sentence_objectives import (
    Objectives,
    PaddedSentences,
    objective_distances,
    pad_sentences,
)


def test_objectives_that_train_nothing_are_refused():
    with pytest.raises(UserError, match="All objectives are 0"):
        Objectives()
    with pytest.raises(UserError, match=r"objectives\.aligned is -1"):
        Objectives(1.0, -1.0)


def sentences(counts, seed=0):
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(sum(counts), 5, generator=draw, dtype=torch.float64)
    return vectors, pad_sentences(vectors, torch.tensor(counts), most=3)


def test_sentences_are_padded_with_zeros_text_by_text():
    vectors, padded = sentences([2, 1, 3])
    assert padded.mask.tolist() == [[True, True, False], [True, False, False], [True] * 3]
    assert torch.equal(padded.vectors[padded.mask], vectors)
    assert not padded.vectors[~padded.mask].any()
    both = PaddedSentences.cat([padded, padded])
    assert torch.equal(both.vectors, padded.vectors.repeat(2, 1, 1))


def test_aligned_sentences_beyond_the_last_are_the_last():
    (one, left), (other, right) = sentences([2, 1]), sentences([3, 3], seed=1)
    found, ranking = objective_distances(
        Objectives(aligned=1.0, best_match=1.0),
        left,
        right,
        torch.tensor([[1, 0], [5, 7]]),
        transport_settings=None,
        attention_temperature=1.0,
    )
    expected = [math.dist(one[1], other[0]), math.dist(one[2], other[5])]
    assert found["aligned"].tolist() == pytest.approx(expected)
    nearest = [
        min(math.dist(a, b) for a in one[:2] for b in other[:3]),
        min(math.dist(one[2], b) for b in other[3:]),
    ]
    assert found["best_match"].tolist() == pytest.approx(nearest)
    assert ranking.tolist() == pytest.approx(nearest)


def test_losses_are_summed_by_weight():
    losses = {"aligned": torch.tensor([1.0, 2.0]), "attention": torch.tensor([10.0, 0.0])}
    found = Objectives(aligned=2.0, attention=0.5).weighted_sum(losses)
    assert found.tolist() == [7.0, 4.0]
