from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.cocitations import (
    CocitationSampling,
    excluded_by_cocitation,
)
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


def excluded_in_loops(pairs, cocited):
    return [[j in (a, p) or (min(a, j), max(a, j)) in cocited for _, j in pairs] for a, p in pairs]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_excluded_are_the_paper_its_positive_and_whatever_is_cocited_with_it(data):
    paper = st.integers(0, 11)
    edge = st.tuples(paper, paper).filter(lambda e: e[0] < e[1])
    cocited = data.draw(st.sets(edge, max_size=20))
    pairs = data.draw(st.lists(st.tuples(paper, paper).filter(lambda e: e[0] != e[1]), min_size=1))
    known = np.sort(np.array([a * 12 + b for a, b in cocited], dtype=np.int64))
    found = excluded_by_cocitation(np.array(pairs), known, 12)
    assert found.tolist() == excluded_in_loops(pairs, cocited)


def test_no_negative_is_known_to_be_cocited(opened):
    found = examples(opened)
    cocited = {divmod(int(key), 60) for key in found.source.known}
    void = 0
    for step in range(20):
        indices = np.random.default_rng(step).permutation(found.train)[:10]
        batch = found.batch(indices, 0, step)
        pairs = pairs_of(batch, found)
        for (anchor, positive), column in zip(pairs, batch.negative.tolist(), strict=True):
            if column < 0:
                void += 1
                continue
            other = pairs[column, 1]
            assert other not in (anchor, positive)
            assert (min(anchor, other), max(anchor, other)) not in cocited
    assert void < 20


def test_a_plain_permutation_has_one_void_pair_a_step_on_average(opened):
    found = examples(opened, negatives="randperm")
    own = [
        int((found.batch(np.arange(10), 0, step).negative == torch.arange(10)).sum())
        for step in range(300)
    ]
    assert 0.8 < np.mean(own) < 1.2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"papers": "p"}, "cited together"),
        ({"contexts": "c"}, "--data.papers"),
        ({"papers": "p", "contexts": "c", "pairs": "t"}, "data.pairs is not used"),
    ],
)
def test_files_that_say_nothing_of_cocitation_are_refused(raw, said):
    with pytest.raises(UserError, match=said):
        CocitationSampling.check_raw(raw, "auto")
