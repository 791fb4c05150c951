"""The scores of the held-out examples, and of benchmarks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train import distributed
from sciembed_train.methods.base import Method
from sciembed_train.methods.engine import sharding
from sciembed_train.methods.loss import widest_float
from sciembed_train.training.trainer import embedding_precision
from sciembed_train.training.validation_benchmarks import ValidationBenchmarks


class HeldOutScores(Callback):
    """Scores what the method has encoded in a validation, and logs it as ``val/<score>``.

    Args:
        dev: what scoring must know of the held-out examples.
        benchmarks: what else is scored, as ``val/<benchmark>/<score>``.

    Attributes:
        start: the scores before the first step of the run; None where there was no validation.
        latest: those of the last validation, that before the first step among them.
    """

    def __init__(self, dev: Any, benchmarks: ValidationBenchmarks | None = None) -> None:
        self.dev, self.benchmarks = dev, benchmarks
        self.start: dict[str, float] | None = None
        self.latest: dict[str, float] = {}
        self._whole_weights = ExitStack()

    def state_dict(self) -> dict[str, Any]:
        """The scores before the first step, for a run that is continued."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep those of the run's beginning."""
        self.start = state_dict["start"]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation; every rank holds all weights until the end of this one."""
        method = cast(Method, pl_module)
        method.held_out.clear()
        # Ranks have different numbers of held-out texts.
        self._whole_weights.enter_context(sharding.whole(method.encoder))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores; every rank computes the same numbers."""
        method = cast(Method, pl_module)
        scores: dict[str, float] = {}
        if len(self.dev):
            found = method.held_out.scores(self.dev, method.device)
            scores = {f"val/{name}": score for name, score in found.items()}
        if self.benchmarks is not None:
            scores |= self.benchmarks.scores(method, embedding_precision(trainer))
        if scores:
            self._log(trainer, method, scores)
        self._whole_weights.close()
        method.held_out.clear()

    def _log(self, trainer: Trainer, method: Method, scores: dict[str, float]) -> None:
        # Every rank has the same vectors; the mean makes them agree to the last bit, so that
        # all of them stop early, or save, together.
        like = torch.zeros((), device=method.device)
        own = torch.tensor(list(scores.values()), dtype=widest_float(like), device=like.device)
        agreed = distributed.mean_over_ranks(own)
        for name, score in zip(scores, agreed, strict=True):
            method.log(name, score.float(), logger=False, sync_dist=True)
        logged = dict(zip(scores, agreed.tolist(), strict=True))
        self.latest = logged
        if trainer.sanity_checking:
            self.start = logged
        else:
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=trainer.global_step)
