"""Three steps of co-citation training in one process or in each of several."""

import torch

from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.aspire import Cocite
from sciembed_train.sampling.cocitations import CocitationSampling
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from tests.helpers.training import OPTIM, Watched, fitted


class Pairs(Watched, Cocite):
    """As it is."""


class LocalNegatives(Pairs):
    """Negatives that carry no gradient to the rank whose papers they are."""

    def gradients(self, batch, micro_batches):
        there = distributed.gather
        if distributed.world_size() > 1:
            distributed.gather = distributed.gather_ragged
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.gather = there


def train(
    corpus: str,
    backbone: str,
    method=Pairs,
    sampling: str = "derangement",
    steps=3,
    dropout=0.0,
    callbacks=(),
    **settings,
) -> dict:
    encoder = EncoderSettings(backbone, max_length=64, dropout=dropout)
    module = method(encoder, OPTIM, **settings)
    examples = DataSettings(sampling=CocitationSampling(sampling), corpus=corpus, batch_size=8)
    data = TrainingData.open(examples, backbone, 64)
    return fitted(module.double(), data, steps, callbacks=[make(data) for make in callbacks])


NESTED = {"matryoshka_dims": (32, 16, 8), "matryoshka_weights": (1.0, 0.5, 2.0)}
VARIANTS: dict[str, dict] = {
    "one": {},
    "as published": {"sampling": "randperm"},
    "cut": {"max_tokens_per_backward": 150},
    "all": {"negatives": "all"},
    "InfoNCE": {"negatives": "all", "temperature": 0.5},
    "InfoNCE, cut": {"negatives": "all", "temperature": 0.5, "max_tokens_per_backward": 150},
    "nested": {"negatives": "all", "temperature": 0.5, **NESTED},
    "nested, cut": {
        "negatives": "all",
        "temperature": 0.5,
        "max_tokens_per_backward": 150,
        **NESTED,
    },
    "nested one": NESTED,
    "full width": {"negatives": "all", "temperature": 0.5, "matryoshka_dims": (32,)},
    "local negatives": {"method": LocalNegatives},
}


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    return {name: train(corpus, backbone, **VARIANTS[name]) for name in names}
