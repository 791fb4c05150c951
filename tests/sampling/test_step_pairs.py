import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.cocitations import CocitationSampling, contained
from sciembed_train.sampling.step_pairs import derangement, flipped, held_out_triplets
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_cocitation_corpus


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_a_derangement_never_uses_an_excluded_entry_nor_a_column_twice(n, more, seed):
    generator = np.random.default_rng(seed)
    excluded = np.eye(n, dtype=bool)
    excluded[tuple(generator.integers(0, n, (2, more)))] = True
    chosen = derangement(excluded, np.random.default_rng(seed))
    used = chosen[chosen >= 0]
    assert len(np.unique(used)) == len(used)
    assert not excluded[np.flatnonzero(chosen >= 0), used].any()
    assert excluded[chosen < 0].any(1).all()
    again = derangement(excluded, np.random.default_rng(seed))
    assert (again == chosen).all()


@given(st.integers(2, 40), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_pair_has_a_negative_where_only_its_own_is_excluded(n, seed):
    chosen = derangement(np.eye(n, dtype=bool), np.random.default_rng(seed))
    assert sorted(chosen.tolist()) == list(range(n))


def test_every_other_pair_is_drawn_about_equally_often():
    counts = np.zeros((5, 5))
    for seed in range(4000):
        chosen = derangement(np.eye(5, dtype=bool), np.random.default_rng(seed))
        counts[np.arange(5), chosen] += 1
    others = counts[~np.eye(5, dtype=bool)]
    assert counts.diagonal().sum() == 0
    assert abs(others / 1000 - 1).max() < 0.2


def test_a_pair_is_turned_by_seed_epoch_and_its_number_alone():
    pairs = np.arange(400).reshape(200, 2)
    numbers = np.arange(200)
    whole = flipped(pairs, numbers, 1, 2)
    assert (np.sort(whole, axis=1) == pairs).all()
    turned = whole[:, 0] > whole[:, 1]
    assert 70 < turned.sum() < 130
    some = np.array([150, 3, 77])
    assert (flipped(pairs[some], some, 1, 2) == whole[some]).all()
    for other in ((2, 2), (1, 3)):
        assert (flipped(pairs, numbers, *other) != whole).any()


def test_held_out_pairs_have_a_random_paper_that_is_none_of_theirs():
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    known = np.array([0 * 8 + 1, 2 * 8 + 3, 4 * 8 + 5, 0 * 8 + 6])
    lengths = np.array([3, 3, 3, 3, 3, 3, 3, 0])

    def related(left, right):
        return contained(np.minimum(left, right) * 8 + np.maximum(left, right), known)

    found = held_out_triplets(pairs, related, lengths > 0, 10)
    assert (np.sort(found[:, :2], axis=1) == pairs).all()
    for anchor, positive, negative in found.tolist():
        assert negative not in (anchor, positive, 7)
        assert {anchor, negative} != {0, 6}
    assert (found == held_out_triplets(pairs, related, lengths > 0, 10)).all()
    assert len(held_out_triplets(pairs, related, lengths > 0, 2)) == 2


@pytest.fixture(scope="module")
def opened(tiny_bert, tmp_path_factory):
    corpus = write_cocitation_corpus(tmp_path_factory.mktemp("cocited") / "corpus", tiny_bert)
    reading = TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 32, seed=3)
    return SimpleNamespace(corpus=corpus, reading=reading)


def examples(opened, **settings):
    return CocitationSampling(**settings).open(opened.corpus, opened.reading, None)


def pairs_of(batch, examples):
    """The papers of a batch's pairs, found again by their tokens."""
    store, length = examples.tokens, examples.max_length
    papers = {tuple(store.rows(np.array([p]), length)[0].tolist()): p for p in range(len(store))}
    parts = batch.rows.ids.split(batch.rows.lengths.tolist())
    names = [papers[tuple(part.tolist())] for part in parts]
    return np.array([[names[i] for i in c.tolist()] for c in (batch.anchor, batch.positive)]).T


def test_a_step_is_the_same_however_many_ranks_share_it(opened):
    found = examples(opened)
    indices = np.random.default_rng(0).permutation(found.train)[:12]
    whole = found.batch(indices, 1, 5)
    parts = [found.batch(indices, 1, 5, slice(r * 4, r * 4 + 4)) for r in range(3)]
    assert torch.equal(torch.cat([p.negative for p in parts]), whole.negative)
    together = np.concatenate([pairs_of(p, found) for p in parts])
    assert (together == pairs_of(whole, found)).all()
    shifted = [p.excluded + torch.tensor([4 * r, 0]) for r, p in enumerate(parts)]
    assert torch.equal(torch.cat(shifted), whole.excluded)
    expected = found.pairs[indices]
    assert (np.sort(pairs_of(whole, found), axis=1) == expected).all()


def test_opened_pairs_are_sent_without_their_tokens(opened):
    found = examples(opened)
    again = pickle.loads(pickle.dumps(found))
    one, other = (e.batch(np.arange(6), 0, 0) for e in (found, again))
    assert torch.equal(one.rows.ids, other.rows.ids)
    assert found.fingerprint == examples(opened).fingerprint
    assert found.fingerprint != examples(opened, negatives="randperm").fingerprint
