"""Warnings, once each and again at the end of a run, that training has gone wrong: finite numbers
that mean nothing.

Vectors that are nearly equal, a loss that stays where equal vectors put it, a gradient of zero, and
a loss that jumps. All but the first are read from what is logged anyway. docs/how-to/diverged.md
states the thresholds.

Shapes: ``U`` texts, ``D`` width.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from sciembed_train.methods.base import Method
from sciembed_train.methods.engine import sharding
from sciembed_train.methods.loss import full_precision
from sciembed_train.progress import print_line
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.training.callbacks.step_metrics import StepMetrics

TEXTS = 64  # whose vectors are looked at, at most
LEAST_SPREAD = 1e-3  # of vectors, as a share of their length
STUCK_WITHIN = 0.005  # of the loss that equal vectors have
STUCK_REPORTS = 5
LEAST_GRADIENT = 1e-8
ZERO_REPORTS = 3
SPIKE = 2.0  # times the largest loss of the reports before
SPIKE_REPORTS = (10, 20)  # fewest and most of them that it is compared with


class Collapse(Callback):
    """Warns of collapse and of spikes.

    Args:
        metrics: what is logged.
        data: whose first texts are encoded at each validation and at the end.

    Attributes:
        said: each warning by its kind.
    """

    def __init__(self, metrics: StepMetrics, data: TrainingData) -> None:
        self.metrics, self.data = metrics, data
        self.said: dict[str, str] = {}
        self._first: float | None = None
        self._losses: deque[float] = deque(maxlen=SPIKE_REPORTS[1])
        self._stuck = self._zero = 0

    @property
    def closing_lines(self) -> Sequence[str]:
        """The warnings, for the end of the run."""
        return tuple(f"warning: {text}" for text in self.said.values())

    def state_dict(self) -> dict[str, Any]:
        """The warnings, for a run that is continued."""
        return {"said": dict(self.said)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was said once is not said again until the end."""
        self.said = dict(state_dict["said"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what was logged of this step, if it was."""
        if self.metrics.logged_step == trainer.global_step:
            logged = self.metrics.logged
            method = cast(Method, pl_module)
            equal = method.collapsed_loss(batch)
            if equal is not None:
                equal *= method.nested.total_weight
            self.look(trainer.global_step, logged["train/loss"], logged["train/grad_norm"], equal)

    def look(self, step: int, loss: float, gradient: float, equal: float | None) -> None:
        """Compare a logged step with those before.

        Args:
            step: its number.
            loss: of all ranks.
            gradient: its norm.
            equal: the loss where all texts have one vector; None where that is not known.
        """
        if not math.isfinite(loss) or not math.isfinite(gradient):
            return
        self._first = loss if self._first is None else self._first
        stuck = bool(equal) and abs(loss - cast(float, equal)) <= STUCK_WITHIN * cast(float, equal)
        self._stuck = self._stuck + 1 if stuck else 0
        if self._stuck == STUCK_REPORTS:
            self._warn(
                "stuck",
                f"the loss has stayed at {loss:.4g} up to step {step:,}, which is what texts that "
                "all have the same vector give: nothing is learnt. Lower model.optim.lr.",
            )
        self._zero = self._zero + 1 if gradient < LEAST_GRADIENT and loss > 0 else 0
        if self._zero == ZERO_REPORTS:
            self._warn(
                "gradient",
                f"the gradient is zero up to step {step:,} (norm {gradient:.2g}) and the loss is "
                f"not ({loss:.4g}): nothing is learnt any more. Lower model.optim.lr.",
            )
        fewest, before = SPIKE_REPORTS[0], self._losses
        if len(before) >= fewest and loss > SPIKE * max(before) and loss > 0.1 * self._first:
            self._warn(
                "spike",
                f"the loss jumped to {loss:.4g} at step {step:,}, more than {SPIKE:g} times the "
                f"largest of the {len(before)} reports before ({max(before):.4g}). If scores do "
                "not come back, lower model.optim.lr or model.optim.clip_norm.",
            )
        before.append(loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the spread of vectors."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._look_at_vectors(trainer, cast(Method, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the spread of vectors, of runs without a validation too."""
        self._look_at_vectors(trainer, cast(Method, pl_module))

    def _look_at_vectors(self, trainer: Trainer, method: Method) -> None:
        rows, encoder = self.data.share(0).rows, method.encoder
        rows = rows.select(torch.arange(min(len(rows), TEXTS)))
        training = encoder.training
        encoder.eval()
        try:
            # An own context of autocast: what it keeps of the weights is gone afterwards.
            precision = trainer.precision_plugin.forward_context()
            with torch.no_grad(), precision, sharding.whole(encoder):
                share = spread(encoder.encode_probe(rows.to_device(method.device)))
        finally:
            encoder.train(training)
        if share < LEAST_SPREAD:
            self._warn(
                "spread",
                f"all vectors are nearly equal at step {trainer.global_step:,}: they differ by "
                f"{share:.2g} of their length. The encoder cannot tell texts apart; train anew "
                "with a lower model.optim.lr.",
            )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said[kind] = text
            self._print(f"warning: {text}")

    @rank_zero_only
    def _print(self, line: str) -> None:
        print_line(line)


def spread(vectors: Float[Tensor, "U D"]) -> float:
    """Root mean square distance of vectors from their mean, over their root mean square length.

    0 where all are equal; nan where one is not finite; 1 for a single vector, which says nothing.
    """
    if len(vectors) < 2:
        return 1.0
    wide = full_precision(vectors).double() if vectors.device.type != "mps" else vectors.float()
    length = wide.square().sum(1).mean().sqrt()
    distance = (wide - wide.mean(0)).square().sum(1).mean().sqrt()
    return float(distance / length) if float(length) else 0.0
