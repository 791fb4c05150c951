"""Three steps of multi-vector training in one process or in each of several."""

import torch

from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from tests.helpers.training import OPTIM, Watched, fitted


class Sentenced(Watched, SentenceCocite):
    """As it is."""


class LocalNegatives(Sentenced):
    """Negatives that carry no gradient to the rank whose papers they are."""

    def gradients(self, batch, micro_batches):
        there = distributed.gather
        if distributed.world_size() > 1:
            distributed.gather = distributed.gather_ragged
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.gather = there


TRANSPORT = TransportSettings(5000.0)
# Every objective, so that a gradient that one of them lost would show.
ALL = {"transport": 1.0, "aligned": 0.7, "best_match": 0.5, "attention": 0.3}
VARIANTS: dict[str, dict] = {
    "ot": {"objectives": {"transport": 1.0}},
    "ts": {"objectives": {"aligned": 1.0}, "transport": None},
    "all": {"objectives": ALL},
    "all, cut": {"objectives": ALL, "max_tokens_per_backward": 300},
    "as published": {"objectives": ALL, "negatives": "randperm", "aligned_anchor": "other"},
    "local negatives": {"objectives": ALL, "method": LocalNegatives},
}


def train(
    corpus, backbone, objectives, method=Sentenced, negatives="derangement", **settings
) -> dict:
    encoder = EncoderSettings(backbone, "sentences", max_length=40, dropout=0.0)
    settings = {"transport": TRANSPORT, **settings}
    module = method(encoder, Objectives(**objectives), OPTIM, **settings)
    examples = DataSettings(
        sampling=SentencePairSampling(negatives, align="context"), corpus=corpus, batch_size=8
    )
    data = TrainingData.open(examples, backbone, 40)
    return fitted(module.double(), data, 3)


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    return {name: train(corpus, backbone, **VARIANTS[name]) for name in names}
