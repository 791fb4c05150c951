import numpy as np
import pytest

from sciembed_train.corpus import row_blocks
from sciembed_train.corpus.row_blocks import blocks, keep_rows, unpacked


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK", 4)


def test_blocks_are_all_rows_once():
    assert [(block.start, block.stop) for block in blocks(10)] == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks(0)) == []


@pytest.mark.parametrize("count", [0, 1, 4, 23])
def test_rows_are_kept_in_their_own_memory(count):
    rng = np.random.default_rng(count)
    rows, keep = rng.integers(0, 99, (count, 3)), rng.random(count) < 0.6
    expected = rows[keep]
    kept = keep_rows(rows, keep)
    np.testing.assert_array_equal(kept, expected)
    assert kept.base is rows


def test_pairs_take_the_memory_of_their_keys():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 10_000_000, (10, 2))
    keys = pairs[:, 0] * 10_000_000 + pairs[:, 1]
    rows = unpacked(keys, 10_000_000)
    np.testing.assert_array_equal(rows, pairs)
    assert np.shares_memory(rows, keys)
    assert unpacked(np.empty(0, np.int64), 0).shape == (0, 2)
