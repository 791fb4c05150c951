"""The start encoder is scored before the first step."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train import distributed
from sciembed_train.training.comparison import StartComparison


class StartScoring(Callback):
    """Has the first rank score the start encoder, while the others wait as long as it takes."""

    def __init__(self, comparison: StartComparison) -> None:
        self.comparison = comparison

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score it, unless the run's folder has the scores."""
        with distributed.first_rank_alone() as first:
            if first:
                self.comparison.before()
