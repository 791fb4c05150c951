"""Three steps of DeCLUTR in one process or in each of several, and what came of them."""

from dataclasses import asdict
from unittest.mock import patch

import torch

from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.declutr import Declutr
from sciembed_train.methods.nested import score_names
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.sampling import spans as sampled
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.spans import SpanSampling
from tests.helpers.training import Watched, fitted

# Uncorrected AdamW moves by many times the rate in its first steps.
OPTIM = OptimSettings(lr=1e-3, schedule="constant", clip_norm=0.5, bias_correction=False)
SPANS = {"max_span": 16, "min_span": 4, "short_documents": "adapt"}


class Spans(Watched, Declutr):
    """DeCLUTR as it is."""


class MeanOfMeans(Spans):
    """A mean over the ranks' own means of MLM: wrong where they have unequal numbers of tokens."""

    def gradients(self, batch, micro_batches):
        there, distributed.sum_over_ranks = (
            distributed.sum_over_ranks,
            lambda count: count * distributed.world_size(),
        )
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.sum_over_ranks = there


class DetachedGather(Spans):
    """Candidates that carry no gradient to the other ranks."""

    def _in_batch_loss(self, anchors, positives):
        there = distributed.gather
        if distributed.world_size() > 1:
            distributed.gather = distributed.gather_ragged
        try:
            return super()._in_batch_loss(anchors, positives)
        finally:
            distributed.gather = there


def train(
    method=Spans,
    corpus: str = "",
    backbone: str = "",
    steps: int = 3,
    max_tokens_per_backward: int | None = None,
    dropout: float = 0.0,
    precision: str = "32-true",
    sampling: dict | None = None,
    **settings,
) -> dict:
    """Gradients of each step before clipping, the weights after, and the validation scores."""
    torch.manual_seed(0)
    encoder = EncoderSettings(backbone, pooling="mean", max_length=64, dropout=dropout)
    module = method(encoder, OPTIM, max_tokens_per_backward=max_tokens_per_backward, **settings)
    module = module.double() if precision == "32-true" else module
    examples = DataSettings(
        sampling=SpanSampling(**{**SPANS, **(sampling or {})}), corpus=corpus, batch_size=8
    )
    data = TrainingData.open(examples, backbone, 64)
    found = fitted(module, data, steps, precision=precision)
    batches = [data.train_dataloader().dataset[s] for s in range(steps)]
    return {
        **found,
        "reported": [
            *module.reported_scores,
            *score_names(module.nested_score, module.nested.dims),
        ],
        "masked": [len(batch.masked) for batch in batches],
        "micro-batches": [len(module.split(batch, max_tokens_per_backward)) for batch in batches],
        "held out": len(data.examples.dev_items(distributed.rank(), distributed.world_size())),
        "settings": asdict(module.optim),
    }


VARIANTS: dict[str, dict] = {
    "both": {},
    "contrastive": {"mlm_weight": 0.0, "sampling": {"mlm_probability": 0.0}},
    "mlm": {"contrastive_weight": 0.0, "sampling": {"num_positives": 0}},
    "clean anchors": {"sampling": {"mask_anchor_for_contrastive": False}},
    "cut": {"max_tokens_per_backward": 120},
    "cut, clean anchors": {
        "max_tokens_per_backward": 180,
        "sampling": {"mask_anchor_for_contrastive": False},
    },
    "nested": {"matryoshka_dims": (32, 8)},
    "nested, cut": {"matryoshka_dims": (32, 8), "max_tokens_per_backward": 120},
    "cut, mlm": {
        "max_tokens_per_backward": 60,
        "contrastive_weight": 0.0,
        "sampling": {"num_positives": 0},
    },
    "published scale": {
        "reproduce": True,
        "mlm_weight": 0.0,
        "sampling": {"mlm_probability": 0.0},
    },
    "mean of means": {"method": MeanOfMeans},
    "detached gather": {"method": DetachedGather},
}


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    # Of 12 held-out documents: three items, which two ranks cannot share evenly.
    with patch.object(sampled, "ITEM_DOCUMENTS", 4):
        return {name: train(corpus=corpus, backbone=backbone, **VARIANTS[name]) for name in names}
