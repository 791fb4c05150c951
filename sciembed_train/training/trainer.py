"""Lightning's trainer as runs use it: its length, its processes, and what of it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.strategy import Strategy

from sciembed_train.errors import UserError
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.training.strategies import (
    STRATEGIES,
    ShardedStrategy,
    chosen,
    keep_gradients_in_buckets,
)

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

# What of the trainer belongs to somebody else: key, the value that is accepted, what to use.
REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("gradient_clip_val", (None,), "set model.optim.clip_norm"),
    ("gradient_clip_algorithm", (None,), "model.optim.clip_norm clips the norm"),
    (
        "accumulate_grad_batches",
        (1,),
        "data.batch_size is the number of examples of an optimiser step over all ranks; what "
        "does not fit in memory is cut by model.max_tokens_per_backward with the same gradient",
    ),
    ("use_distributed_sampler", (False,), "the data module shares the examples among ranks"),
    ("reload_dataloaders_every_n_epochs", (0,), "the order of each epoch is its own already"),
    ("limit_train_batches", (None, 1.0), "use trainer.max_steps"),
    (
        "limit_val_batches",
        (None, 1.0, 0.0, 0),
        "data.dev_examples limits validation; 0 leaves it out",
    ),
    ("overfit_batches", (0.0, 0), "use trainer.max_steps and a small corpus"),
    ("fast_dev_run", (False,), "use --trainer.max_steps 2 and another --run"),
    ("barebones", (False,), "leave it out"),
    ("enable_checkpointing", (None, True), "a run always keeps its last checkpoint"),
    ("default_root_dir", (None,), "use --root"),
    ("min_epochs", (None,), "use trainer.max_epochs"),
    ("min_steps", (None,), "use trainer.max_steps"),
    ("inference_mode", (True,), "leave it out"),
)


class RunTrainer(Trainer):
    """Lightning's trainer with one more precision, ``auto``, and one more strategy, ``fsdp``.

    Args:
        precision: ``auto`` is ``bf16-mixed`` where the device multiplies bf16 in hardware, else
            ``32-true``.
        accelerator: where to run.
        strategy: ``fsdp`` is `ShardedStrategy`; DDP keeps its gradients in the buffers it sends.
        kwargs: as for Lightning's trainer.
    """

    def __init__(
        self,
        *,
        precision: Precision | None = None,
        accelerator: str = "auto",
        strategy: str | Strategy = "auto",
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


def has_bf16(accelerator: str) -> bool:
    """Whether bf16 products run in hardware on the accelerator that ``accelerator`` means."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.is_file() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"})


def refuse_keys(trainer: Any) -> None:
    """Raise UserError for a setting of the trainer that would fight with ours."""
    for key, accepted, instead in REFUSED:
        value = trainer.get(key)
        if value not in accepted:
            raise UserError(f"trainer.{key}={value} is not used here: {instead}.")
    strategy = trainer.strategy
    name = strategy if isinstance(strategy, str) else str(strategy.class_path).rpartition(".")[2]
    if name not in STRATEGIES:
        raise UserError(
            f"trainer.strategy={name} is not supported; the strategies are {', '.join(STRATEGIES)}."
        )


def probe(trainer: Any) -> tuple[int, int]:
    """Number of processes, and of those on this machine, that the trainer's settings mean.

    Raises:
        UserError: the accelerator is not there, or the settings contradict each other.
    """
    keys = ("accelerator", "strategy", "devices", "num_nodes", "precision")
    settings = {key: trainer[key] for key in keys}
    if not isinstance(settings["strategy"], str):
        settings["strategy"] = "ddp"  # its own settings do not matter here
    try:
        found = RunTrainer(
            **settings,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        given = ", ".join(f"trainer.{key}={value}" for key, value in settings.items())
        raise UserError(
            f"{one_line(error)} Given: {given}. `train doctor` says what this machine has."
        ) from error
    return found.world_size, found.num_devices


def total_steps(trainer: Any, plan: StepPlan) -> int:
    """Optimiser steps of the run: its epochs or its steps, whichever ends first.

    Raises:
        UserError: neither is given.
    """
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


def validation_interval(trainer: Any, steps_per_epoch: int) -> int:
    """Optimiser steps between two validations, from Lightning's two settings.

    ``val_check_interval`` is a share of an epoch or a number of steps; only where it is left at
    a whole epoch does ``check_val_every_n_epoch`` count.

    Raises:
        UserError: it is a time, or out of range.
    """
    interval = trainer.val_check_interval
    if interval is None or (interval == 1.0 and isinstance(interval, float)):
        return max(1, steps_per_epoch * (trainer.check_val_every_n_epoch or 1))
    if isinstance(interval, float) and 0 < interval < 1:
        return max(1, round(steps_per_epoch * interval))
    if isinstance(interval, int) and interval >= 1:
        return interval
    raise UserError(
        f"trainer.val_check_interval={interval}: give a share of an epoch (0.25) or a number of "
        "optimiser steps (500)."
    )


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
