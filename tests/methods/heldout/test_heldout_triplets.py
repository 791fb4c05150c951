import math

import numpy as np
import pytest
import torch

from sciembed_train.batch import DevTriplets
from sciembed_train.losses.triplet import euclidean_margin
from sciembed_train.methods.heldout.heldout_triplets import HeldOutTriplets, held_out_scores
from sciembed_train.methods.nested import NestedLoss


def test_held_out_scores_are_the_definitions_in_plain_loops():
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(30, 4, dtype=torch.float64, generator=generator)
    columns = torch.randint(0, 30, (3, 25), generator=generator)
    keep = (columns[0] != columns[1]) & (columns[0] != columns[2])
    dev = DevTriplets(*columns[:, keep], papers=30)
    found = held_out_scores(vectors, torch.ones(30, dtype=torch.bool), dev, euclidean_margin)

    cited = {}
    for a, p in zip(dev.anchor.tolist(), dev.positive.tolist(), strict=True):
        cited.setdefault(a, set()).add(p)
    mrr, recall, average = [], [], []
    for query, positives in cited.items():
        order = sorted(
            (n for n in range(30) if n != query),
            key=lambda n, q=query: (vectors[q] - vectors[n]).norm().item(),
        )
        ranks = [order.index(p) + 1 for p in positives]
        mrr.append(1 / min(ranks))
        recall.append(sum(r <= 10 for r in ranks) / len(ranks))
        average.append(sum((i + 1) / r for i, r in enumerate(sorted(ranks))) / len(ranks))
    near = (vectors[dev.anchor] - vectors[dev.positive] + 1e-6).norm(dim=1)
    far = (vectors[dev.anchor] - vectors[dev.negative] + 1e-6).norm(dim=1)
    assert found["loss"] == pytest.approx((near - far + 1).clamp(min=0).mean().item())
    assert found["mrr"] == pytest.approx(np.mean(mrr))
    assert found["recall@10"] == pytest.approx(np.mean(recall))
    assert found["map"] == pytest.approx(np.mean(average))


def test_an_encoder_that_says_nothing_scores_lowest():
    dev = DevTriplets(torch.tensor([0]), torch.tensor([1]), torch.tensor([2]), papers=20)
    found = held_out_scores(
        torch.ones(20, 3), torch.ones(20, dtype=torch.bool), dev, euclidean_margin
    )
    assert found["mrr"] == pytest.approx(1 / 19)
    assert found["recall@10"] == 0


def test_papers_that_were_not_encoded_are_left_out():
    vectors = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    there = torch.tensor([True, True, True, False])
    dev = DevTriplets(torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([2, 2]), papers=4)
    found = held_out_scores(vectors, there, dev, euclidean_margin)
    assert found["mrr"] == 1.0
    assert found["loss"] == 0.0
    assert held_out_scores(vectors, torch.zeros_like(there), dev, euclidean_margin) == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_vectors_that_are_not_finite_have_no_score(bad):
    vectors = torch.randn(6, 4)
    dev = DevTriplets(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([2, 3]), papers=6)
    encoded = torch.ones(6, dtype=torch.bool)
    for paper in (0, 5):  # of a triplet, and of the pool alone
        table = vectors.clone()
        table[paper, 1] = bad
        scores = held_out_scores(table, encoded, dev, euclidean_margin)
        assert set(scores) == {"loss", "mrr", "recall@10", "map"}
        assert all(map(math.isnan, scores.values()))
    encoded[5] = False
    assert not any(map(math.isnan, held_out_scores(table, encoded, dev, euclidean_margin).values()))


def triplets(papers=40):
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(papers, 8, dtype=torch.float64, generator=generator)
    columns = torch.randint(0, papers, (3, 60), generator=generator)
    keep = (columns[0] != columns[1]) & (columns[0] != columns[2])
    return vectors, DevTriplets(*columns[:, keep], papers=papers)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_width_is_ranked_by_the_first_numbers_alone(normalize):
    vectors, dev = triplets()
    encoded = torch.ones(len(vectors), dtype=torch.bool)
    if normalize:
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
    whole = held_out_scores(vectors, encoded, dev, euclidean_margin)
    nested = NestedLoss(8, (8, 5, 2), normalize=normalize)
    found = held_out_scores(vectors, encoded, dev, euclidean_margin, nested)
    assert found["map_8"] == whole["map"]
    expected = {}
    for dim in (2, 5):
        short = vectors[:, :dim].numpy()
        if normalize:
            short = short / np.linalg.norm(short, axis=1, keepdims=True)
        alone = held_out_scores(torch.from_numpy(short), encoded, dev, euclidean_margin)
        expected[dim] = alone["map"]
        assert found[f"map_{dim}"] == pytest.approx(alone["map"], abs=1e-12)
    # Another width, or another form of it, would not be taken for it.
    assert len({round(score, 4) for score in (whole["map"], *expected.values())}) == 3
    other = held_out_scores(vectors, encoded, dev, euclidean_margin, NestedLoss(8, (3,)))
    assert abs(other["map_3"] - expected[2]) > 1e-4
    assert {name: found[name] for name in whole} == whole
    assert set(found) - set(whole) == {"map_8", "map_5", "map_2"}


def test_no_width_has_a_score_where_a_vector_is_not_finite():
    vectors, dev = triplets()
    vectors[dev.anchor[0], 7] = math.nan  # behind the first numbers
    encoded = torch.ones(len(vectors), dtype=torch.bool)
    found = held_out_scores(vectors, encoded, dev, euclidean_margin, NestedLoss(8, (2,)))
    assert math.isnan(found["map_2"])


def test_held_out_triplets_hand_the_widths_on():
    vectors, dev = triplets()
    held_out = HeldOutTriplets(euclidean_margin, NestedLoss(8, (2,)))
    slots = torch.arange(len(vectors))
    held_out._vectors.add(slots, vectors)
    found = held_out.scores(dev, torch.device("cpu"))
    short = held_out_scores(vectors[:, :2], slots >= 0, dev, euclidean_margin)
    assert found["map_2"] == short["map"] != found["map"]
