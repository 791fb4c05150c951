import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.cocitations import CocitationSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_cocitation_corpus


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
