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
