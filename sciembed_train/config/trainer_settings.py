"""What of Lightning's trainer a recipe or a machine file may set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sciembed_train.config.stand_ins import Callback, Logger, Plugin, Profiler, Strategy
from sciembed_train.errors import UserError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

# Settings of Lightning's trainer that are another's here, and whose.
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
        UserError: ``log_every_n_steps`` or ``limit_val_batches`` is out of its range.
    """

    max_epochs: int | None = None
    max_steps: int = -1
    max_time: str | dict[str, int] | None = None
    accelerator: str = "auto"
    devices: list[int] | int | str = "auto"
    num_nodes: int = 1
    precision: Precision | None = None
    strategy: str | Strategy = "auto"
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
        if self.limit_val_batches not in (None, 1.0, 0):
            raise UserError(
                f"trainer.limit_val_batches={self.limit_val_batches} is not used here: "
                "data.dev_examples limits validation; 0 leaves it out."
            )
