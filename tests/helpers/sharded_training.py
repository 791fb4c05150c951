"""Three steps of methods whose encoder is shared out among ranks, and what came of them."""

from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch
from pytorch_lightning.strategies import DDPStrategy

from sciembed_train import distributed
from sciembed_train.methods.engine import sharding
from sciembed_train.training.strategies import ShardedStrategy, keep_gradients_in_buckets
from tests.helpers import pair_training, span_training, training

PIECE_TOKENS = 40  # so few that ranks run the backbone unequally often


def padded(fitted, checkpointing, module, *arguments, **settings):
    """Train as `training.fitted`, with the padded forward, in micro-batches, and shared out."""
    encoder = module.encoder
    encoder.settings = replace(encoder.settings, max_tokens_per_forward=PIECE_TOKENS)
    encoder.unpadded = False
    if checkpointing:
        backbone = encoder.backbone  # transformers 5 has another name for it
        enable = getattr(backbone, "activation_checkpointing_enable", None)
        (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    sharding.check(encoder, (p for p in module.parameters() if p.requires_grad))
    settings["strategy"] = ShardedStrategy()
    if distributed.world_size() > 1:
        settings["inference_mode"] = False
    found = fitted(module, *arguments, **settings)
    states = module.trainer.optimizers[0].state.values()
    moments = [distributed.is_sharded(state["exp_avg"]) for state in states]
    return {**found, "moments are parts": moments}


def bucketed(fitted, module, *arguments, **settings):
    """Train as `training.fitted`, by DDP as a run has it; whether gradients were views."""
    views, searching, watch = [], [], module.on_before_optimizer_step

    def seen(optimizer):
        views.extend(p.grad._is_view() for p in module.parameters() if p.grad is not None)
        model = module.trainer.strategy.model
        searching.append(getattr(model, "find_unused_parameters", None))
        watch(optimizer)

    module.on_before_optimizer_step = seen
    strategy = DDPStrategy()
    keep_gradients_in_buckets(strategy)
    found = fitted(module, *arguments, strategy=strategy, **settings)
    return {**found, "views": views, "searching": searching}


VARIANTS = {
    "triplets, cut": (training, {"method": training.Plain, "max_tokens_per_backward": 150}),
    "spans": (span_training, {}),
    "spans, cut": (span_training, {"max_tokens_per_backward": 120}),
    "pairs, cut": (
        pair_training,
        {"negatives": "all", "temperature": 0.5, "max_tokens_per_backward": 150},
    ),
}
CHECKPOINTED, DDP = "triplets, checkpointed", "triplets, ddp"


def on_a_rank(places: dict[str, tuple[str, str]], names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    found = {}
    for name in names:
        module, settings = VARIANTS["triplets, cut" if name in (CHECKPOINTED, DDP) else name]
        corpus, backbone = places[module.__name__]
        fitted = partial(padded, training.fitted, name == CHECKPOINTED)
        if name == DDP:
            fitted = partial(bucketed, training.fitted)
        with patch.object(module, "fitted", fitted):
            found[name] = module.train(corpus=corpus, backbone=backbone, **settings)
    return found
