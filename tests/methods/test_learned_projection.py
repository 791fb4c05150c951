"""The map that is learned from vectors that stay as they are."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sciembed_train.methods import learned_projection
from sciembed_train.methods.learned_projection import (
    PaperPairs,
    learn_map,
    places_of,
    whitened,
)
from sciembed_train.methods.projection_settings import ProjectionSettings
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers, Texts

PAPERS, WIDTH = 240, 12


def topic_papers(seed=0):
    """Vectors of papers by topic, in which 4 numbers are of the topic and 8, larger, are noise."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 30, PAPERS)
    centres = rng.normal(size=(30, 4))
    own = centres[topic] + 0.3 * rng.normal(size=(PAPERS, 4))
    noise = 1.5 * rng.normal(size=(PAPERS, WIDTH - 4))
    vectors = normalize(torch.tensor(np.concatenate([own, noise], 1)).float())
    one, other = np.nonzero(
        (topic[:, None] == topic) & (np.arange(PAPERS)[:, None] < np.arange(PAPERS))
    )
    pairs = np.stack([one, other], 1)
    train = (pairs < 160).all(1)
    return vectors, topic, pairs[train]


def pairs_of(citing, cocited=None, papers=None):
    papers = np.arange(PAPERS) if papers is None else papers
    numbers = papers[citing]
    order = np.lexsort(numbers.T[::-1])
    cocited = np.empty((0, 2), np.int64) if cocited is None else cocited
    count = int(papers.max()) + 1
    related = RelatedPapers(
        RelatedMask(), count, numbers[order], np.empty(0, np.int64), np.zeros(count, np.int64)
    )

    def excluded(queries, positives, candidates, own):
        asked, right, others = (
            Texts(papers[places], papers[places]) for places in (queries, positives, candidates)
        )
        return related.excluded(asked, right, others, own)

    return PaperPairs(citing, cocited, excluded)


def ranking(vectors, topic):
    """Share of the nearest papers of unseen papers that are of their topic."""
    scores = vectors @ vectors.T
    scores.fill_diagonal_(-2)
    same = torch.tensor(topic[:, None] == topic)
    nearest = scores.topk(3, dim=1).indices
    return same.gather(1, nearest)[160:].float().mean().item()


def test_whitening_makes_differences_within_pairs_alike_in_every_direction():
    rng = np.random.default_rng(1)
    scales = np.array([3.0, 1.0, 0.3])
    vectors = torch.tensor(rng.normal(size=(4000, 3)) * scales).float()
    pairs = np.arange(4000).reshape(-1, 2)
    mapped = vectors @ whitened(vectors, pairs).T
    spread = (mapped[pairs[:, 0]] - mapped[pairs[:, 1]]).square().mean(0)
    before = (vectors[pairs[:, 0]] - vectors[pairs[:, 1]]).square().mean(0)
    assert spread.max() / spread.min() < 0.2 * before.max() / before.min()
    differences = (vectors[pairs[:, 0]] - vectors[pairs[:, 1]]).double()
    scatter = differences.T @ differences / len(pairs)
    inside = scatter + learned_projection.RIDGE * scatter.trace() / 3 * torch.eye(3)
    root = whitened(vectors, pairs).double()
    product = root @ inside @ root
    torch.testing.assert_close(product / product[0, 0], torch.eye(3).double(), rtol=1e-4, atol=1e-4)
    assert torch.linalg.svdvals(root).mean() == pytest.approx(1, rel=1e-5)


def test_one_pair_of_equal_vectors_gives_a_finite_map():
    vectors = torch.ones(2, 3) / 3**0.5
    assert whitened(vectors, np.array([[0, 1]])).isfinite().all()


def test_a_learned_map_ranks_papers_that_it_has_not_seen_better():
    vectors, topic, pairs = topic_papers()
    settings = ProjectionSettings(steps=60, batch_size=64, negatives=100, lr=3e-2, share=1.0)
    learned, losses = learn_map(vectors, pairs_of(pairs), settings)
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    before, after = ranking(vectors, topic), ranking(normalize(vectors @ learned.T), topic)
    assert after > before + 0.2
    # The share is between what changes nothing and what was learned.
    half, _ = learn_map(
        vectors,
        pairs_of(pairs),
        ProjectionSettings(steps=60, batch_size=64, negatives=100, lr=3e-2, share=0.5),
    )
    torch.testing.assert_close(half, (learned + torch.eye(WIDTH)) / 2)


def test_the_same_seed_learns_the_same_and_another_one_another():
    vectors, _, pairs = topic_papers()
    settings = ProjectionSettings(steps=3, batch_size=8, negatives=10)
    one, other, third = (learn_map(vectors, pairs_of(pairs), settings, s)[0] for s in (0, 0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_the_loss_is_its_definition_in_loops(monkeypatch):
    vectors, _, pairs = topic_papers()
    papers = np.arange(PAPERS) + 7  # numbers in the corpus that are no places
    given = pairs_of(pairs, papers=papers)
    settings = ProjectionSettings(steps=1, batch_size=16, negatives=40, temperature=0.1)
    seen = []
    real = learned_projection._loss

    def watched(weight, *rest):
        loss = real(weight, *rest)
        seen.append((weight.detach().clone(), rest[1], rest[2], loss.item()))
        return loss

    monkeypatch.setattr(learned_projection, "_loss", watched)
    learn_map(vectors, given, settings)
    ((weight, drawn, candidates, loss),) = seen
    cites = {tuple(pair) for pair in pairs.tolist()}
    expected = []
    for at, (query, positive) in enumerate(drawn.tolist()):
        kept = [at]
        known = set()
        for place, other in enumerate(candidates.tolist()):
            first = other not in known
            known.add(other)
            related = (query, other) in cites or (other, query) in cites
            # Cited together twice or more, by papers of the corpus.
            by = sum((c, query) in cites and (c, other) in cites for c in range(PAPERS))
            if first and not related and by < 2 and other not in (query, positive):
                kept.append(place)
        mapped = normalize(vectors[candidates[kept]] @ weight.T)
        own = normalize(vectors[query] @ weight.T, dim=0)
        scores = mapped @ own / 0.1
        expected.append(cross_entropy(scores[None], torch.tensor([0])).item())
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_cocited_pairs_are_drawn_both_ways_in_their_share_of_the_steps(monkeypatch):
    vectors, _, pairs = topic_papers()
    cocited = np.array([[200, 201], [202, 203]])
    drawn = []

    def watched(weight, vectors, pairs, *rest):
        drawn.append(pairs)
        return (weight * 0).sum()

    monkeypatch.setattr(learned_projection, "_loss", watched)
    settings = ProjectionSettings(steps=200, batch_size=8, negatives=0, cocitations=0.25)
    learn_map(vectors, pairs_of(pairs, cocited), settings)
    together = [part for part in drawn if (part >= 200).all()]
    assert 30 <= len(together) <= 70
    assert {tuple(pair) for part in together for pair in part.tolist()} == {
        *((200, 201), (201, 200), (202, 203), (203, 202))
    }


def test_pairs_without_a_vector_are_left_out():
    papers = np.array([3, 5, 9])
    one, other = places_of(papers, [np.array([[3, 9], [3, 4]]), np.array([[9, 5]])])
    assert one.tolist() == [[0, 2]]
    assert other.tolist() == [[2, 1]]
