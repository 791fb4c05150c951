"""Where the texts of a micro-batch stand without padding."""

import pytest
import torch

from sciembed_train.encoder.unpadded.attention import (
    Layout,
)

# On a CPU torch runs nested tensors through an older kind of them, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


CPU = torch.device("cpu")


def test_texts_of_like_length_are_padded_together_with_little_padding():
    sizes = sorted(torch.randint(8, 512, (200,), generator=torch.manual_seed(0)).tolist())
    for order in (sizes[::-1], sizes, [512, 8] * 5):
        layout, _ = Layout.of(order, CPU)
        groups = layout.groups
        assert sum(g.texts for g in groups) == len(order)
        assert sum(len(g.slots) for g in groups) == sum(order)
        assert all(len(g.slots) >= 0.8 * g.texts * g.longest for g in groups)
    assert len(Layout.of(sizes[::-1], CPU)[0].groups) < 15


def test_the_first_or_last_tokens_of_texts_and_where_they_stand():
    layout, _ = Layout.of([5, 5, 3, 1], torch.device("cpu"))
    assert layout.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 0]
    first, places = layout.end_tokens(2)
    assert first.sizes == (2, 2, 2, 1)
    assert places.tolist() == [0, 1, 5, 6, 10, 11, 13]
    assert first.bounds.tolist() == [0, 2, 4, 6, 7]
    last, places = layout.end_tokens(2, last=True)
    assert last.sizes == (2, 2, 2, 1)
    assert places.tolist() == [3, 4, 8, 9, 11, 12, 13]
    assert layout.last.tolist() == [4, 9, 12, 13]
    same, places = layout.end_tokens(9)
    assert same.sizes == layout.sizes
    assert places.tolist() == list(range(14))
