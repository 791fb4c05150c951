"""What of Lightning's trainer a recipe or a machine file may set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from sciembed_train.config.stand_ins import Callback, Logger, Plugin, Profiler, Strategy
from sciembed_train.errors import UserError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
MONTH = 30 * 24 * 3600.0  # seconds
PROFILERS = ("simple", "advanced", "pytorch")
# Units of a time that is given as a mapping.
TIMES = ("weeks", "days", "hours", "minutes", "seconds")

# Settings of Lightning's trainer that are refused here, and what to do instead.
REFUSED: dict[str, str] = {
    "gradient_clip_val": "set model.optim.clip_norm",
    "gradient_clip_algorithm": "model.optim.clip_norm clips the norm",
    "accumulate_grad_batches": (
        "data.batch_size is the number of examples of an optimiser step over all ranks; what does "
        "not fit in memory is split by model.max_tokens_per_backward with the same gradient"
    ),
    "use_distributed_sampler": "the data module shares the examples among ranks",
    "reload_dataloaders_every_n_epochs": "the order of each epoch is its own already",
    "limit_train_batches": "use trainer.max_steps",
    "overfit_batches": "use trainer.max_steps and a small corpus",
    "fast_dev_run": "use --trainer.max_steps 2 and another --run",
    "barebones": "leave it out",
    "enable_checkpointing": "a run always keeps its last checkpoint",
    "enable_autolog_hparams": "a run always logs its settings",
    "default_root_dir": "use --root",
    "min_epochs": "use trainer.max_epochs",
    "min_steps": "use trainer.max_steps",
    "inference_mode": "leave it out",
}


@dataclass(frozen=True)
class TrainerSettings:
    """How long, where and how exactly to train.

    These are the settings of Lightning's trainer that a run admits.

    Args:
        max_epochs: epochs of the run, at most.
        max_steps: optimiser steps of the run, at most; -1 for no limit.
        max_time: time of the run, at most, as ``DD:HH:MM:SS``.
        accelerator: where to run: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        devices: how many devices of this machine, or which (a list); ``auto`` for all.
        num_nodes: machines.
        precision: ``auto`` is ``bf16-mixed`` where the device multiplies bf16 in hardware, else
            ``32-true``; null is ``32-true``.
        strategy: ``ddp``: a model in each process; ``fsdp``: its weights shared out; ``auto``: as
            many processes as devices.
        rank_timeout: seconds after which a rank that gives no sign of life, or that the others wait
            for in a step, is taken to hang and ends the run; null for never.
        val_check_interval: between two validations, a share of an epoch (0.25) or a number of
            optimiser steps (500); null for ``check_val_every_n_epoch``.
        check_val_every_n_epoch: epochs between two validations.
        limit_val_batches: 0 leaves validation out.
        num_sanity_val_steps: validation batches before the first step: -1 for all of them, which
            is the start's score; 0 for none.
        log_every_n_steps: optimiser steps between two lines of ``metrics.csv``.
        enable_progress_bar: false for a line now and then.
        enable_model_summary: whether to print the modules and their parameters.
        deterministic: refuse operations that are not deterministic; ``warn`` to be told of them.
        benchmark: let cuDNN choose its fastest algorithms.
        detect_anomaly: find the operation behind a NaN of the backward pass; slow.
        sync_batchnorm: batch norms over all processes.
        profiler: ``simple``, ``advanced`` or ``pytorch``, or a class.
        logger: more loggers, by class.
        callbacks: more callbacks, by class.
        plugins: plugins, by class.

    Raises:
        UserError: a value is out of its range.
    """

    max_epochs: int | None = None
    max_steps: int = -1
    max_time: str | dict[str, int] | None = None
    accelerator: str = "auto"
    devices: list[int] | int | str = "auto"
    num_nodes: int = 1
    precision: Precision | None = None
    strategy: str | Strategy = "auto"
    rank_timeout: float | None = 600.0
    val_check_interval: int | float | None = None
    check_val_every_n_epoch: int | None = 1
    limit_val_batches: int | float | None = None
    num_sanity_val_steps: int = -1
    log_every_n_steps: int | None = 10
    enable_progress_bar: bool | None = None
    enable_model_summary: bool = False
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    sync_batchnorm: bool = False
    profiler: str | Profiler | None = None
    logger: list[Logger] | Logger | bool | None = None
    callbacks: list[Callback] | Callback | None = None
    plugins: list[Plugin] | Plugin | None = None

    def __post_init__(self) -> None:
        every = self.log_every_n_steps
        if every is None or every < 1:
            raise UserError(f"trainer.log_every_n_steps is {every}; give 1 or more steps.")
        interval = self.check_val_every_n_epoch
        for key, fits, wanted in (
            ("max_epochs", self.max_epochs is None or self.max_epochs >= -1, "1 or more"),
            ("max_steps", self.max_steps >= -1, "1 or more, or -1 for no limit"),
            ("num_nodes", self.num_nodes >= 1, "1 machine or more"),
            ("num_sanity_val_steps", self.num_sanity_val_steps >= -1, "0 or more, or -1 for all"),
            ("check_val_every_n_epoch", interval is None or interval >= 1, "1 epoch or more"),
            (
                "rank_timeout",
                self.rank_timeout is None or 1 <= self.rank_timeout < MONTH,
                "1 second or more, or null",
            ),
            ("accelerator", self.accelerator in ACCELERATORS, " or ".join(ACCELERATORS)),
            ("devices", _are_devices(self.devices), "1 or more, numbers of devices, or auto"),
            ("max_time", _is_time(self.max_time), "a time such as 01:12:00:00, of days first"),
            (
                "profiler",
                not isinstance(self.profiler, str) or self.profiler in PROFILERS,
                f"{', '.join(PROFILERS)}, or a class",
            ),
        ):
            if not fits:
                raise UserError(f"trainer.{key} is {getattr(self, key)!r}; expected {wanted}.")
        self._check_validation()

    def _check_validation(self) -> None:
        interval = self.val_check_interval
        share = isinstance(interval, float) and 0 < interval <= 1
        if interval is not None and not share and not (type(interval) is int and interval >= 1):
            raise UserError(
                f"trainer.val_check_interval={interval}: give a share of an epoch (0.25) or a "
                "number of optimiser steps (500)."
            )
        if self.limit_val_batches not in (None, 1.0, 0):
            raise UserError(
                f"trainer.limit_val_batches={self.limit_val_batches} is not used here: "
                "data.dev_examples limits validation; 0 leaves it out."
            )


def _are_devices(devices: Any) -> bool:
    """Whether it is a number of devices, ``auto``, or distinct device numbers."""
    if isinstance(devices, str):
        numbers = devices.split(",")
        return devices == "auto" or (
            all(number.isdecimal() for number in numbers) and len(set(numbers)) == len(numbers)
        )
    if isinstance(devices, list):
        return bool(devices) and min(devices) >= 0 and len(set(devices)) == len(devices)
    return devices >= 1


def _is_time(time: str | dict[str, int] | None) -> bool:
    if isinstance(time, dict):
        return bool(time) and set(time) <= set(TIMES) and min(time.values()) >= 0
    return time is None or re.fullmatch(r"\d+:\d+:\d+:\d+", time) is not None
