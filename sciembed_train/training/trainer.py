"""Lightning's trainer as runs use it: length, processes, and settings that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.strategy import Strategy

from sciembed_train import distributed
from sciembed_train.config.trainer_settings import Precision, TrainerSettings
from sciembed_train.errors import UserError, one_line
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.training.checkpoint_io import RunCheckpointIO
from sciembed_train.training.launcher import watch_children
from sciembed_train.training.rank_watch import RankWatch
from sciembed_train.training.strategies import (
    STRATEGIES,
    ShardedStrategy,
    chosen,
    keep_gradients_in_buckets,
    wait_for_ranks,
)

EMBEDDING_PRECISIONS: dict[str, Literal["bf16", "fp16"]] = {
    "bf16-mixed": "bf16",
    "16-mixed": "fp16",
}


class RunTrainer(Trainer):
    """Lightning's trainer with one more precision, ``auto``, and one more strategy, ``fsdp``.

    Args:
        precision: ``auto`` is ``bf16-mixed`` where the device multiplies bf16 in hardware, else
            ``32-true``.
        accelerator: where to run.
        strategy: ``fsdp`` is `ShardedStrategy`; DDP keeps its gradients in the buffers it sends.
        rank_timeout: seconds after which a rank hangs; torch's own limit is kept above it.
        watch: is told of ranks that end before their time.
        kwargs: as for Lightning's trainer.
    """

    def __init__(
        self,
        *,
        precision: Precision | None = None,
        accelerator: str = "auto",
        strategy: str | Strategy = "auto",
        rank_timeout: float | None = None,
        watch: RankWatch | None = None,
        **kwargs: Any,
    ) -> None:
        if precision == "auto":
            precision = "bf16-mixed" if has_bf16(accelerator) else "32-true"
        made = chosen(strategy)
        if isinstance(made, ShardedStrategy):
            # Weights collected in inference mode could not be trained afterwards.
            kwargs["inference_mode"] = False
        super().__init__(precision=precision, accelerator=accelerator, strategy=made, **kwargs)
        keep_gradients_in_buckets(self.strategy)
        wait_for_ranks(self.strategy, rank_timeout)
        self.strategy.checkpoint_io = RunCheckpointIO()
        if watch is not None:
            watch_children(self.strategy, watch)


def embedding_precision(trainer: Trainer) -> Literal["fp32", "bf16", "fp16"]:
    """The precision in which an encoder embeds as it is trained."""
    return EMBEDDING_PRECISIONS.get(str(trainer.precision), "fp32")


def has_bf16(accelerator: str) -> bool:
    """Whether bf16 products run in hardware on the accelerator that ``accelerator`` means."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.is_file() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"})


def check_strategy(settings: TrainerSettings) -> None:
    """Raise UserError unless the strategy is one of those that are supported."""
    strategy = settings.strategy
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name not in STRATEGIES:
        raise UserError(
            f"trainer.strategy={name} is not supported; the strategies are {', '.join(STRATEGIES)}."
        )


def probe(settings: TrainerSettings) -> int:
    """Number of processes that the trainer's settings mean.

    Raises:
        UserError: the accelerator is not there, or the settings contradict each other.
    """
    keys = ("accelerator", "strategy", "devices", "num_nodes", "precision")
    values: dict[str, Any] = {key: getattr(settings, key) for key in keys}
    if not isinstance(values["strategy"], str):
        values["strategy"] = "ddp"  # its own settings do not matter here
    half = settings.precision == "16-mixed"
    if half:  # which Lightning replaces on a CPU, and warns
        values["precision"] = "32-true"
    try:
        trainer = RunTrainer(
            **values,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    # What Lightning raises where an accelerator is not there or has not these devices.
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        given = ", ".join(f"trainer.{key}={getattr(settings, key)}" for key in keys)
        raise UserError(
            f"{one_line(error)} Given: {given}. `train doctor` says what this machine has."
        ) from error
    if half and trainer.strategy.root_device.type == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a GPU: on a CPU Lightning would compute in bf16 in "
            "its place. Use --trainer.precision bf16-mixed or 32-true."
        )
    return trainer.world_size


def as_launched(settings: TrainerSettings) -> TrainerSettings:
    """The settings with the devices and machines for which a launcher has started processes.

    Without them each process of torchrun would be a run of its own, and all write one folder.

    Raises:
        UserError: the settings ask for others than there are.
    """
    launch = distributed.launch()
    if launch is None:
        return settings
    if launch.devices is not None and settings.devices == "auto":
        settings = replace(settings, devices=launch.devices)
    if launch.nodes is not None and settings.num_nodes == 1:
        settings = replace(settings, num_nodes=launch.nodes)
    return settings


def check_launched(settings: TrainerSettings, world_size: int) -> None:
    """Raise UserError unless as many processes train together as a launcher has started."""
    launch = distributed.launch()
    if launch is None or launch.processes == world_size:
        return
    advice = "Give --trainer.devices (of each machine) and --trainer.num_nodes that make up as many"
    if launch.devices is not None:
        advice = f"Leave them out: they are {launch.devices} and {launch.nodes} here"
    raise UserError(
        f"{launch.launcher} started {launch.processes} processes, and trainer.devices="
        f"{settings.devices} with trainer.num_nodes={settings.num_nodes} mean {world_size}. "
        f"{advice}."
    )


def total_steps(trainer: TrainerSettings, plan: StepPlan) -> int:
    """Optimiser steps: of the epochs or the steps, whichever ends first; UserError without."""
    ends = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(trainer.max_epochs * plan.steps_per_epoch)
    if trainer.max_steps >= 0:
        ends.append(trainer.max_steps)
    if not ends or not min(ends):
        raise UserError(
            "The run has no length: give trainer.max_epochs or trainer.max_steps, 1 or more."
        )
    return min(ends)


def validation_interval(trainer: TrainerSettings, steps_per_epoch: int) -> int:
    """Optimiser steps between two validations, from Lightning's two settings.

    ``val_check_interval`` is a share of an epoch or a number of steps; only where it is left at
    a whole epoch does ``check_val_every_n_epoch`` count.
    """
    interval = trainer.val_check_interval
    if interval is None or (interval == 1.0 and isinstance(interval, float)):
        return max(1, steps_per_epoch * (trainer.check_val_every_n_epoch or 1))
    if isinstance(interval, float):
        return max(1, round(steps_per_epoch * interval))
    return interval
