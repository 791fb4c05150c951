"""The loggers of a run: its table of metrics, the user's own, and Weights & Biases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from sciembed_train import distributed
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.errors import UserError
from sciembed_train.training import run_folder


def run_loggers(folder: Path, name: str, run: RunSettings, more: object) -> list[Logger]:
    """The loggers of a run."""
    loggers: list[Logger] = [run_folder.MetricsCsv(folder / "metrics.csv")]
    own = more if isinstance(more, list) else [more]
    loggers += [logger for logger in own if isinstance(logger, Logger)]
    if run.wandb:
        loggers.append(wandb_logger(folder, name, run.wandb_project))
    return loggers


def wandb_logger(folder: Path, run: str, project: str) -> Logger:
    """W&B's logger, if it is installed.

    Its files go to ``$WANDB_DIR``, else to the run's folder; with ``WANDB_MODE=offline`` all of
    them stay there.
    """
    try:
        import wandb  # noqa: F401 - asked for before Lightning does, for a better message
    except ImportError as error:
        raise UserError(
            "--wandb needs the package wandb; install it with "
            "`pip install 'sciembed_train[wandb]'`, or leave --wandb out."
        ) from error
    from pytorch_lightning.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "wandb_run.txt"  # a continued run goes on in the same curves
    goes_on = known.is_file() and any((folder / mark).exists() for mark in run_folder.MARKS)
    if not goes_on and distributed.launch_rank() == 0:
        known.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    number = known.read_text(encoding="utf-8").strip() if known.is_file() else None
    place = os.environ.get("WANDB_DIR") or str(folder)
    return WandbLogger(save_dir=place, name=run, id=number, project=project, resume="allow")


def log_summary(loggers: Sequence[Logger], results: Mapping[str, Any]) -> None:
    """Put a run's verdict, as ``results.json`` has it, into the summary of Weights & Biases."""
    from pytorch_lightning.loggers import WandbLogger

    verdict = results["verdict"]
    values = {name: verdict[name] for name in ("line", "outcome", "alpha")}
    for name, scores in verdict["comparisons"].items():
        values |= {f"{name}/{key}": scores[key] for key in ("before", "after", "difference")}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({f"verdict/{k}": v for k, v in values.items()})
