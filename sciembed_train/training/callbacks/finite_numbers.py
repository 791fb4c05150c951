"""A run ends at the first step that is not finite, or leaves it out; no such weight is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train import distributed
from sciembed_train.errors import RunError
from sciembed_train.methods.base import Method
from sciembed_train.methods.engine.finite_steps import BadSteps
from sciembed_train.optim_settings import learning_rate
from sciembed_train.progress import print_line
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.training.bad_step import bad_weight, first_bad_tensor, save_texts
from sciembed_train.training.checkpoint_io import kept

MOST_IN_A_ROW = 3  # steps that ``nonfinite: skip`` leaves out before the run ends


class FiniteNumbers(Callback):
    """Reads which steps were left out (`FiniteSteps`), and ends the run.

    It reads where the host waits for the device anyway: at a step that is logged, before a
    validation, and before a checkpoint. The weights are those before the bad step until then.

    Args:
        folder: of the run.
        data: its examples.
        nonfinite: ``stop`` ends the run at the first such step, ``skip`` after `MOST_IN_A_ROW`.
        every: optimiser steps between two that are logged.
    """

    def __init__(
        self, folder: Path, data: TrainingData, nonfinite: Literal["stop", "skip"], every: int
    ) -> None:
        self.folder, self.data, self.nonfinite, self.every = folder, data, nonfinite, every
        self._told = 0

    @property
    def closing_lines(self) -> Sequence[str]:
        """How many steps were left out, for the end of the run."""
        if not self._told:
            return ()
        steps = "1 step was" if self._told == 1 else f"{self._told:,} steps were"
        return (f"warning: {steps} left out: the loss or the gradient was not finite",)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many bad steps in a row are left out."""
        most = 1 if self.nonfinite == "stop" else MOST_IN_A_ROW
        cast(Method, pl_module).finite_steps.most_in_a_row = most

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read at a step that is logged, that a validation follows, or that is the last."""
        made, interval = trainer.global_step, trainer.val_check_batch
        validated = trainer.enable_validation and interval and made % int(interval) == 0
        ends = made in (1, trainer.max_steps) or trainer.should_stop
        if made % self.every == 0 or validated or ends:
            self._check(trainer, cast(Method, pl_module))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read before anything is written; RunError where a weight is not finite."""
        method = cast(Method, pl_module)
        self._check(trainer, method)
        if (name := bad_weight(method)) is not None:
            raise RunError(
                f"step {trainer.global_step:,}: the weight {name} is not finite, so no checkpoint "
                f"is written. {kept(self.folder)} A weight of the backbone "
                f"{method.encoder.settings.backbone} may have been so from the start: fetch it "
                "again, or give another."
            )

    def _check(self, trainer: Trainer, method: Method) -> None:
        bad = method.finite_steps.read()
        if bad.in_a_row >= method.finite_steps.most_in_a_row:
            raise self._error(trainer, method, bad)
        if bad.total > self._told:
            self._told = bad.total
            rate = learning_rate(method.optim, bad.latest - 1, trainer.max_steps)
            self._say(
                f"warning: step {bad.latest:,} was left out: {_values(bad)}, at learning rate "
                f"{rate:.3g} ({bad.total:,} left out so far; {MOST_IN_A_ROW} in a row end the run)"
            )

    @rank_zero_only
    def _say(self, line: str) -> None:
        print_line(line)

    def _error(self, trainer: Trainer, method: Method, bad: BadSteps) -> RunError:
        """What the run ends with; every rank finds it, and writes its texts."""
        step = bad.latest - 1
        rate = learning_rate(method.optim, step, trainer.max_steps)
        precision = trainer.precision_plugin.train_step_context()
        first = first_bad_tensor(method, self.data.share(step), precision)
        rank = distributed.rank()
        name = f"nonfinite_step_{bad.latest}{f'.rank{rank}' if rank else ''}.json"
        facts = {
            "step": bad.latest,
            "learning_rate": rate,
            "loss": repr(bad.loss),
            "grad_norm": repr(bad.grad_norm),
            "first_tensor": first,
        }
        with trainer.precision_plugin.train_step_context():
            texts = save_texts(self.folder / name, method, self.data, step, facts)
        distributed.barrier()  # the first rank ends the others
        row = f" It is the last of {bad.in_a_row} in a row." if bad.in_a_row > 1 else ""
        return RunError(
            f"step {bad.latest:,}: {_values(bad)}, at learning rate {rate:.3g}. The first tensor "
            f"that is not finite is {first}.{row} The step was not made. Its {texts} texts are in "
            f"{self.folder / name}. {kept(self.folder)} {_advice(self.nonfinite, first)}"
        )


def _values(bad: BadSteps) -> str:
    return f"the loss ({bad.loss:.4g}) or the gradient (norm {bad.grad_norm:.4g}) is not finite"


def _advice(nonfinite: str, first: str) -> str:
    if first.startswith("the weight"):
        return (
            "Give another backbone, or fetch it again; or start anew with a lower model.optim.lr."
        )
    skip = ", or leave such steps out with --nonfinite skip" if nonfinite == "stop" else ""
    return (
        "Lower model.optim.lr (with --ckpt_path last, or anew with another --run), look at the "
        f"texts{skip}."
    )
