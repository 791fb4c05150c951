"""Heads of tasks."""

import pytest
import torch

from sciembed_train.batch import (
    DevTasks,
    TaskKind,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.specter2 import MultiTask


def test_heads_start_small_and_drop_a_fifth(tiny_bert):
    torch.manual_seed(0)
    module = MultiTask(EncoderSettings(str(tiny_bert)))
    module.prepare(DevTasks((TaskKind("a.b", "class", 500), TaskKind("near", "triplet")), (), 0))
    (layer,) = module.heads.layers.values()
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()
    module.train()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = 1
        scores = module.heads("a.b", torch.ones(2000, 32))
    assert (scores == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert scores.max().item() == pytest.approx(1.25)
