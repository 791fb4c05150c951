"""What a run is called, where it lies, and when it is saved and ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciembed_train.config.value_checks import LONGEST_NAME, shown
from sciembed_train.errors import UserError

LARGEST_SEED = 2**32 - 1  # of numpy's generator


@dataclass(frozen=True)
class CheckpointSettings:
    """When a run is saved.

    Args:
        monitor: the validation score that chooses the best checkpoint, of the held-out examples or
            of ``validation``; less is better for losses, more for every other.
        every: optimiser steps between two ``last.ckpt``; there is one after each validation too.

    Raises:
        ValueError: ``every`` is below 1.
    """

    monitor: str = "val/loss"
    every: int = 1000

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"checkpoint.every must be 1 or more; got {self.every}.")


@dataclass(frozen=True)
class StoppingSettings:
    """When a run ends before its time.

    Args:
        patience: validations without a better score before the run ends.
        monitor: the score, as in ``checkpoint.monitor``.
        min_delta: least change that counts as better.

    Raises:
        UserError: ``patience`` is below 1, or ``min_delta`` below 0.
    """

    patience: int = 3
    monitor: str = "val/loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise UserError(
                f"early_stopping.patience is {self.patience}; expected 1 validation or more. Leave "
                "early_stopping out for a run that never ends early."
            )
        if not self.min_delta >= 0:
            raise UserError(f"early_stopping.min_delta is {self.min_delta}; expected 0 or more.")


@dataclass(frozen=True)
class RunSettings:
    """The run, its folder and its checkpoints.

    Args:
        run: name of the run and of its folder below ``root``; by default the name of the first
            recipe. Under torchrun write ``--name``, since torchrun takes ``--run`` for an option of
            its own.
        root: where runs go; null for ``$SCIEMBED_CHECKPOINTS``, else ``checkpoints``.
        ckpt_path: the checkpoint to continue from (``fit``) or to score (``validate``): ``last``,
            or a ``.ckpt`` file.
        checkpoint: when it is saved.
        early_stopping: when it ends before its time; null for never.
        export: write ``export/`` at the end.
        wandb: log to Weights & Biases.
        wandb_project: the project there.
        nonfinite: at a loss or gradient that is not finite ``stop`` the run, or ``skip`` the step:
            three in a row stop it then. Overflows that fp16's scaler handles do not count.
        memory_dry_run: on a GPU, make the step that takes most memory once before the first.
        quiet: no progress.
        seed_everything: of the generators of torch, numpy and Python before the model is made;
            ``data.seed`` is that of the examples and of dropout.

    Raises:
        UserError: the name is none of a folder, or the seed is out of range.
    """

    run: str | None = None
    root: str | None = None
    ckpt_path: str | None = None
    checkpoint: CheckpointSettings = CheckpointSettings()
    early_stopping: StoppingSettings | None = None
    export: bool = True
    wandb: bool = False
    wandb_project: str = "sciembed"
    nonfinite: Literal["stop", "skip"] = "stop"
    memory_dry_run: bool = True
    quiet: bool = False
    seed_everything: int = 0

    def __post_init__(self) -> None:
        if self.run is not None:
            check_name(self.run)
        if not 0 <= self.seed_everything <= LARGEST_SEED:
            raise UserError(
                f"seed_everything is {self.seed_everything}; expected a number from 0 to "
                f"{LARGEST_SEED:,}."
            )


def check_name(name: str) -> None:
    """Raise UserError unless a run's name is one part of a path, printable and not hidden."""
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        raise UserError(
            f"--run {shown(name)} is too long a name of a folder: {len(name)} letters; give "
            f"{LONGEST_NAME} or fewer."
        )
    if not name or name != Path(name).name or name.startswith(".") or not name.isprintable():
        raise UserError(f"--run {name!r} is no name of a folder; use letters, digits, - and _.")
