import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.token_masking import Masking
from sciembed_train.text.tokenizer import TextTokenizer

MASK, VOCABULARY = 4, 1000
SPECIAL = np.arange(VOCABULARY) < 5


def rows(lengths, seed=0):
    """Ids of rows between two special tokens, where each row's own start, and a uniform each."""
    random = np.random.default_rng(seed)
    parts = [np.concatenate([[2], random.integers(0, VOCABULARY, n), [3]]) for n in lengths]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes + 1
    width = max(lengths, default=0)
    return np.concatenate(parts), starts, sizes - 2, random.random((len(lengths), width))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.floats(0.01, 1), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_hiding_is_that_of_plain_loops(lengths, probability, seed):
    ids, starts, sizes, draws = rows(lengths, seed)
    before = ids.copy()
    positions, labels = Masking(probability, MASK, SPECIAL).hide(ids, starts, sizes, draws)
    expected, want_positions = before.tolist(), []
    for row, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        for column in range(size):
            u = draws[row, column].item()
            if u < probability and expected[start + column] >= 5:
                want_positions.append(start + column)
                if u / probability < 0.8:
                    expected[start + column] = MASK
                elif u / probability < 0.9:
                    expected[start + column] = int((u / probability - 0.8) / (0.9 - 0.8) * 1000)
    assert positions.tolist() == want_positions == sorted(want_positions)
    assert ids.tolist() == expected
    assert labels.tolist() == before[positions].tolist()
    assert positions.dtype == labels.dtype == np.int64


def test_shares_are_those_of_bert():
    ids, starts, lengths, draws = rows([200, 512, 1, 300, 511] * 200)
    before = ids.copy()
    positions, labels = Masking(0.15, MASK, SPECIAL).hide(ids, starts, lengths, draws)
    usual = int((before >= 5).sum())
    chosen = len(positions)

    def near(count, of, share):
        assert abs(count / of - share) < 4 * math.sqrt(share * (1 - share) / of)

    near(chosen, usual, 0.15)
    now = ids[positions]
    near(int((now == MASK).sum()), chosen, 0.8 + 0.1 / VOCABULARY)
    near(int((now == labels).sum()), chosen, 0.1 + 0.1 / VOCABULARY)
    others = now[(now != MASK) & (now != labels)]
    near(len(others), chosen, 0.1)
    # Random ids are even over the whole vocabulary.
    counts = np.bincount(others * 10 // VOCABULARY, minlength=10)
    expected = len(others) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi square, 9 degrees, 0.1 %
    untouched = np.ones(len(ids), dtype=bool)
    untouched[positions] = False
    assert (ids[untouched] == before[untouched]).all()


def test_special_tokens_are_never_hidden_even_when_every_other_is():
    ids, starts, lengths, draws = rows([40, 3, 17])
    ids[[5, 6]] = 1  # the unknown token inside a text
    before = ids.copy()
    positions, _ = Masking(1.0, MASK, SPECIAL).hide(ids, starts, lengths, draws)
    assert (before[positions] >= 5).all()
    assert positions.tolist() == np.flatnonzero(before >= 5).tolist()


def test_a_random_id_is_within_the_vocabulary_for_the_largest_draw():
    ids = np.array([7], dtype=np.int64)
    draw = np.nextafter(0.9, 0)
    Masking(1.0, MASK, SPECIAL).hide(ids, np.array([0]), np.array([1]), np.array([[draw]]))
    assert ids[0] == VOCABULARY - 1


def test_no_rows_and_no_luck_hide_nothing():
    masking = Masking(0.15, MASK, SPECIAL)
    none = np.empty(0, dtype=np.int64)
    for found in masking.hide(none, none, none, np.empty((0, 5))):
        assert found.shape == (0,)
    ids, starts, lengths, draws = rows([9])
    before = ids.copy()
    assert len(masking.hide(ids, starts, lengths, np.full_like(draws, 0.15))[0]) == 0
    assert (ids == before).all()


@pytest.mark.parametrize("fixture", ["tiny_bert", "tiny_roberta"])
def test_a_tokenizer_says_which_ids_are_special(fixture, request):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    masking = Masking.of(tokenizer, 0.15)
    assert masking.mask_id == tokenizer.mask_id
    assert len(masking.special) == tokenizer.vocab_size
    assert np.flatnonzero(masking.special).tolist() == [0, 1, 2, 3, 4]
    assert not masking.special[tokenizer.encode(["a b c"])[0]].any()


def test_a_tokenizer_without_a_mask_token_is_refused(tiny_bert):
    tokenizer = TextTokenizer.load(tiny_bert)
    tokenizer.mask_id = None
    with pytest.raises(UserError, match=r"has no mask token.*mlm_probability=0 and .*mlm_weight=0"):
        Masking.of(tokenizer, 0.15)
