import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.inference import sentence_alignment
from sciembed_train.inference.sentence_alignment import Grouped, align_pairs
from tests.helpers.plain_alignment import plain_alignment

WIDTH = 5


def grouped(rng, sizes):
    range_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Grouped(
        rng.standard_normal((int(range_starts[-1]), WIDTH)).astype(np.float32), range_starts
    )


@pytest.mark.parametrize("by", ["euclidean", "cosine", "dot"])
@given(st.integers(0, 10**6), st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_alignments_are_those_of_plain_loops_however_few_fit_at_once(by, seed, numbers):
    rng = np.random.default_rng(seed)
    sentences = grouped(rng, rng.integers(1, 7, 6))
    pairs = np.stack([rng.permutation(6)[:2] for _ in range(9)])
    sizes = rng.integers(0, 4, 9)
    picked = rng.integers(0, 4, sizes.sum())
    others = rng.standard_normal((4, WIDTH)).astype(np.float32)
    contexts = Grouped(others, np.concatenate([[0], np.cumsum(sizes)]), picked)
    before, sentence_alignment.NUMBERS = sentence_alignment.NUMBERS, numbers
    try:
        found = align_pairs(pairs, sentences, contexts, by)
    finally:
        sentence_alignment.NUMBERS = before
    for row, (a, b) in enumerate(pairs.tolist()):
        q, p = (
            sentences.vectors[sentences.range_starts[x] : sentences.range_starts[x + 1]]
            for x in (a, b)
        )
        mine = others[picked[contexts.range_starts[row] : contexts.range_starts[row + 1]]]
        assert found[row].tolist() == plain_alignment(q, p, mine, by)


def test_of_equal_sentences_the_first_is_taken():
    same = Grouped(np.ones((7, WIDTH), np.float32), np.array([0, 3, 7]))
    contexts = Grouped(np.ones((2, WIDTH), np.float32), np.array([0, 2]))
    for by in ("euclidean", "cosine", "dot"):
        assert align_pairs(np.array([[0, 1]]), same, contexts, by).tolist() == [[0, 0, 0, 0]]


def test_a_number_beyond_the_largest_is_the_largest():
    vectors = np.zeros((40_001, 2), np.float32)
    vectors[39_999] = 1
    long = Grouped(vectors, np.array([0, 40_000, 40_001]))
    contexts = Grouped(np.ones((1, 2), np.float32), np.array([0, 1]))
    found = align_pairs(np.array([[0, 1]]), long, contexts, "euclidean")
    assert found.tolist() == [[32_767, 0, 0, 0]]
