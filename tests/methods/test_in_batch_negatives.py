"""Masks of some rows against plain loops over all of them."""

import pytest
import torch

from sciembed_train.methods.in_batch_negatives import not_known_as_near, outside_pairs


def in_parts(allowed, rows, size):
    """The whole mask, asked for so many rows at a time."""
    starts = range(0, rows, size)
    return torch.cat([allowed(slice(i, min(i + size, rows))) for i in starts])


@pytest.mark.parametrize("size", [1, 2, 4, 5])
@pytest.mark.parametrize(("first", "candidates"), [(0, 9), (4, 5), (3, 2)])
def test_forbidden_pairs_are_left_out_and_others_counted_from_the_first(size, first, candidates):
    pairs = [(0, 0), (1, 5), (4, 3), (4, 8), (2, 4), (2, 4), (0, 6)]
    found = in_parts(outside_pairs(torch.tensor(pairs), candidates, first), 5, size)
    expected = [[(i, first + k) not in pairs for k in range(candidates)] for i in range(5)]
    assert found.tolist() == expected


def test_no_forbidden_pair_leaves_every_candidate():
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert outside_pairs(none, 3)(slice(0, 2)).tolist() == [[True] * 3] * 2


@pytest.mark.parametrize("texts", [4, 9, 200])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_what_a_triplet_of_the_step_says_is_near_is_no_negative(texts, size):
    draw = torch.Generator().manual_seed(texts)
    names = torch.randint(-(2**62), 2**62, (texts,), generator=draw)  # as fingerprints are
    every = names[torch.randint(texts, (14, 3), generator=draw)]
    here = every[3:11]
    found = in_parts(not_known_as_near(here, every), 8, size)
    pairs = {(q, p) for q, p, _ in every.tolist()}
    near = pairs | {(p, q) for q, p in pairs}
    candidates = [*every[:, 1].tolist(), *every[:, 2].tolist()]
    expected = [[c != a and (a, c) not in near for c in candidates] for a in here[:, 0].tolist()]
    assert found.tolist() == expected
    assert not found.all()
