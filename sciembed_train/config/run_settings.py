"""What a run is called, where it lies, and when it is saved and ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CheckpointSettings:
    """When a run is saved.

    Args:
        monitor: the validation score that chooses the best checkpoint; less is better for losses,
            more for every other.
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
    """

    patience: int = 3
    monitor: str = "val/loss"
    min_delta: float = 0.0


@dataclass(frozen=True)
class RunSettings:
    """The run, its folder and its checkpoints.

    Args:
        run: its name, a folder below ``root``; the first recipe's where there is none.
        root: where runs go; null for ``$SCIEMBED_CHECKPOINTS``, else ``checkpoints``.
        ckpt_path: the checkpoint to continue from: ``last``, or a ``.ckpt`` file; of ``validate``
            the one to score.
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
