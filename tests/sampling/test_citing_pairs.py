import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.citing_pairs import CitingSentencePairs, CitingSentenceSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_cocitation_corpus
from tests.helpers.sentence_pair_corpus import write_citing_corpus


@pytest.fixture(scope="module")
def opened(tiny_bert, tmp_path_factory):
    corpus = write_citing_corpus(tmp_path_factory.mktemp("citing"), tiny_bert)
    reading = TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 16, seed=3)
    papers, offsets = corpus.sentence_papers()
    cites = [set(papers[a:b].tolist()) for a, b in pairwise(offsets)]
    return SimpleNamespace(corpus=corpus, reading=reading, cites=cites)


def examples(opened, **values):
    return CitingSentenceSampling(**values).open(opened.corpus, opened.reading, None)


def sentence_pairs(cites):
    """`CitingSentencePairs` that know what sentences cite, and nothing else."""
    offsets = np.cumsum([0, *map(len, cites)])
    papers = np.array([paper for one in cites for paper in sorted(one)], np.int32)
    found = object.__new__(CitingSentencePairs)
    found.papers, found.offsets = papers, offsets
    return found


cited_sets = st.lists(st.sets(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=12)


@given(cited_sets, st.data())
@settings(max_examples=80, deadline=None)
def test_excluded_and_related_are_sentences_that_cite_a_paper_in_common(cites, data):
    sentence = st.integers(0, len(cites) - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(sentence, sentence), min_size=1)))
    found = sentence_pairs(cites)
    expected = [[bool(cites[a] & cites[p]) for _, p in pairs] for a, _ in pairs]
    assert found.excluded_negatives(pairs).tolist() == expected
    one, other = pairs.T
    assert found.related(one, other).tolist() == [bool(cites[a] & cites[b]) for a, b in pairs]


def test_a_batch_holds_the_sentences_of_its_pairs_as_they_are_encoded(opened, tiny_bert):
    found = examples(opened)
    batch = found.batch(np.arange(8), 0, 0)
    texts = list(opened.corpus.citing_sentences())
    tokenizer = opened.reading.tokenizer
    rows = [part.tolist() for part in batch.rows.ids.split(batch.rows.lengths.tolist())]
    for place, number in enumerate(range(8)):
        pair = [texts[sentence] for sentence in found.pairs[number]]
        composed = [InputFormat().compose(text, None, tokenizer.sep_token) for text in pair]
        expected = tokenizer.rows(composed, 16)
        read = [rows[int(batch.anchor[place])], rows[int(batch.positive[place])]]
        assert sorted(read) == sorted(expected)
    assert len(rows) == len(np.unique(found.pairs[:8]))


def test_no_negative_cites_what_its_anchor_cites(opened):
    found = examples(opened)
    void = 0
    for step in range(20):
        indices = np.random.default_rng(step).permutation(found.train)[:10]
        drawn = found.source.step_pairs(indices, 0, step)
        batch = found.batch(indices, 0, step)
        assert torch.equal(batch.negative, torch.from_numpy(drawn.negative))
        for (anchor, positive), column in zip(drawn.pairs, drawn.negative, strict=True):
            assert opened.cites[anchor] & opened.cites[positive]
            if column < 0:
                void += 1
                continue
            assert not opened.cites[anchor] & opened.cites[drawn.pairs[column, 1]]
    assert void < 40


def test_a_step_is_the_same_however_many_ranks_share_it(opened):
    found = examples(opened)
    indices = np.random.default_rng(0).permutation(found.train)[:12]
    whole = found.batch(indices, 1, 5)
    parts = [found.batch(indices, 1, 5, slice(r * 4, r * 4 + 4)) for r in range(3)]
    assert torch.equal(torch.cat([p.negative for p in parts]), whole.negative)
    shifted = [p.excluded + torch.tensor([4 * r, 0]) for r, p in enumerate(parts)]
    assert torch.equal(torch.cat(shifted), whole.excluded)


def test_held_out_pairs_have_a_sentence_that_cites_something_else(opened):
    found = examples(opened)
    assert len(found.dev) == len(opened.corpus.sentence_pairs("dev")) > 3
    columns = (found.dev.anchor, found.dev.positive, found.dev.negative)
    for anchor, positive, negative in zip(*(found.dev_papers[c.numpy()] for c in columns)):  # noqa: B905
        assert opened.cites[anchor] & opened.cites[positive]
        assert not opened.cites[anchor] & opened.cites[negative]
    assert examples(opened).fingerprint == found.fingerprint
    assert examples(opened, negatives="randperm").fingerprint != found.fingerprint


def test_opened_pairs_are_sent_without_their_tokens(opened):
    found = examples(opened)
    again = pickle.loads(pickle.dumps(found))
    one, other = (e.batch(np.arange(6), 0, 0) for e in (found, again))
    assert torch.equal(one.rows.ids, other.rows.ids)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"papers": "p"}, "There are no citing sentences"),
        ({"contexts": "c"}, "--data.papers"),
        ({"papers": "p", "cocitations": "c"}, "data.cocitations is not used"),
    ],
)
def test_files_without_citing_sentences_are_refused(raw, said):
    with pytest.raises(UserError, match=said):
        CitingSentenceSampling.check_raw(raw, "auto")


def test_a_corpus_without_sentence_pairs_says_how_to_prepare_them(opened, tiny_bert, tmp_path):
    corpus = write_cocitation_corpus(tmp_path / "corpus", tiny_bert)
    with pytest.raises(UserError, match="--contexts F and --sentence-pairs set"):
        CitingSentenceSampling().open(corpus, opened.reading, None)
    other = TokenizationSpec(opened.reading.tokenizer, InputFormat(separator="space"), 16, seed=0)
    with pytest.raises(UserError, match="no tokens of its citing sentences"):
        CitingSentenceSampling().open(opened.corpus, other, None)
