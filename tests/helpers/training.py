"""Three steps of a method in one process or in each of several, and what came of them."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.base import Method
from sciembed_train.methods.heldout.heldout_triplets import HeldOutTriplets
from sciembed_train.methods.loss import Loss
from sciembed_train.methods.specter import Specter
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.training.callbacks.validation import HeldOutScores

OPTIM = OptimSettings(lr=1e-2, schedule="constant", clip_norm=0.1)


class Watched(LightningModule):
    """Keeps each step's gradient as it is before clipping."""

    def on_before_optimizer_step(self, optimizer):
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        grads = [distributed.full_tensor(gradient).flatten() for gradient in grads]
        self.__dict__.setdefault("seen", []).append(torch.cat(grads).clone())
        super().on_before_optimizer_step(optimizer)


class Plain(Watched, Specter):
    """SPECTER as it is."""


class WorldSizeFactor(Plain):
    """The classic mistake: the loss times the number of ranks."""

    def loss(self, batch):
        found = super().loss(batch)
        return Loss(found.value * distributed.world_size(), found.parts)


class InBatch(Watched, Method):
    """Find your positive among everybody's positives and negatives."""

    gather = staticmethod(distributed.gather)

    def loss(self, batch):
        vectors = self.encoder(batch.rows)
        candidates = torch.cat([self.gather(vectors[c]) for c in (batch.positive, batch.negative)])
        labels = torch.arange(len(batch)) + distributed.rank() * len(batch)
        scores = -torch.cdist(vectors[batch.anchor], candidates)
        value = torch.nn.functional.cross_entropy(scores, labels)
        return Loss(value, {})

    @cached_property
    def held_out(self):
        return HeldOutTriplets(lambda a, p, n: (a - p).norm(dim=1) - (a - n).norm(dim=1))

    def split(self, batch, tokens):
        return [batch]


class DetachedGather(InBatch):
    """Candidates that carry no gradient to the other ranks."""

    @staticmethod
    def gather(rows):
        return rows if distributed.world_size() == 1 else distributed.gather_ragged(rows)


def train(
    method: type[Method],
    corpus: str,
    backbone: str,
    max_tokens_per_backward: int | None = None,
    steps: int = 3,
    dropout: float = 0.0,
    plugins: list | None = None,
    double: bool = True,
) -> dict:
    """Gradients of each step before clipping, the weights after, and the validation scores."""
    encoder = EncoderSettings(backbone, max_length=64, dropout=dropout)
    module = method(encoder, OPTIM, max_tokens_per_backward=max_tokens_per_backward)
    data = TrainingData.open(DataSettings(corpus=corpus, batch_size=8), backbone, 64)
    found = fitted(module.double() if double else module, data, steps, plugins=plugins)
    batches = [data.train_dataloader().dataset[s] for s in range(steps)]
    return {**found, "triplets": [batch.rows.ids.tolist() for batch in batches]}


def fitted(
    module: Method,
    data: TrainingData,
    steps: int,
    strategy="ddp",
    callbacks: Sequence[Callback] = (),
    **settings,
) -> dict:
    """What came of some steps, in this process or in those of the group it is in."""
    world = distributed.world_size()
    if world > 1:  # so that Lightning joins these processes and starts none
        os.environ["LOCAL_RANK"] = str(distributed.rank())
        os.environ["NODE_RANK"] = "0"
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=world,
        strategy=strategy if world > 1 else "auto",
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[HeldOutScores(data.dev), *callbacks],
        **settings,
    )
    trainer.fit(module, data)
    whole = [distributed.full_tensor(p.detach()) for p in module.parameters()]
    return {
        "gradients": [g.tolist() for g in module.seen],
        "weights": torch.cat([w.flatten() for w in whole]).tolist(),
        "scores": {name: value.item() for name, value in trainer.callback_metrics.items()},
    }


def alone(run: Callable[..., dict], *arguments: Any) -> dict:
    """What ``run`` gives in this process, made with the operations that the ranks use."""
    before = torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(does not have many workers|LeafSpec).*")
        try:
            return run(*arguments)
        finally:
            torch.use_deterministic_algorithms(before)


def difference(one: dict, other: dict, key: str) -> float:
    """The largest difference of an entry."""
    return float(np.abs(np.array(one[key]) - np.array(other[key])).max())


VARIANTS = {
    "plain": (Plain, None),
    "cut": (Plain, 150),
    "world-size factor": (WorldSizeFactor, None),
    "in batch": (InBatch, None),
    "detached gather": (DetachedGather, None),
}


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    return {name: train(VARIANTS[name][0], corpus, backbone, VARIANTS[name][1]) for name in names}


def small_corpus(folder: Path, backbone: Path) -> Path:
    from tests.helpers.small_corpus import write_small_corpus

    write_small_corpus(folder / "corpus", backbone)
    return folder / "corpus"
