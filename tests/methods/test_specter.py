import math

import pytest
import torch

from sciembed_train.batch import TokenRows, TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.specter import Specter

TRIPLETS = [(0, 1, 2), (3, 1, 0), (2, 0, 3)]


@pytest.mark.parametrize("margin", [0.0, 0.05, 5.0])
def test_the_loss_is_the_equation_in_plain_loops(tiny_bert, margin):
    encoder = EncoderSettings(str(tiny_bert), max_length=16, dropout=0.0)
    module = Specter(encoder, margin=margin).double()
    rows = TokenRows(torch.arange(5, 17), torch.tensor([4, 3, 2, 3]))
    found = module.loss(TripletBatch(rows, *torch.tensor(TRIPLETS).T.contiguous(), 0))
    vectors = module.encoder(rows).detach()

    def far(a, b):
        return math.sqrt(((vectors[a] - vectors[b] + 1e-6) ** 2).sum())

    losses = [max(0.0, far(a, p) - far(a, n) + margin) for a, p, n in TRIPLETS]
    assert found.value.item() == pytest.approx(sum(losses) / 3, abs=1e-9)
    active = sum(loss > 0 for loss in losses) / 3
    assert found.parts["active_share"].item() == pytest.approx(active)
    assert (margin > 1) == (active == 1)


def test_the_margin_is_a_setting_of_checkpoints(tiny_bert):
    module = Specter(EncoderSettings(str(tiny_bert)), margin=0.5)
    assert module.settings()["margin"] == 0.5
    assert module.held_out is module.held_out
