"""The callbacks of a run, in the order in which they must act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.training.callbacks.checkpoint_metadata import CheckpointMetadata
from sciembed_train.training.callbacks.checkpoints import RunCheckpoints
from sciembed_train.training.callbacks.micro_batch_limit import MicroBatchLimit
from sciembed_train.training.callbacks.progress import Bar, ProgressLines, ValidationLines
from sciembed_train.training.callbacks.signals import Signals
from sciembed_train.training.callbacks.step_metrics import StepMetrics
from sciembed_train.training.callbacks.throughput import Throughput
from sciembed_train.training.callbacks.validation import HeldOutScores
from sciembed_train.training.report import Report


@dataclass(frozen=True)
class Output:
    """What a run prints.

    Args:
        quiet: nothing.
        bar: a progress bar in place of a line at an interval; only on a terminal.
    """

    quiet: bool = False
    bar: bool = False


def run_callbacks(
    folder: Path,
    data: TrainingData,
    *,
    monitor: str,
    checkpoint_every: int,
    log_every: int,
    facts: Mapping[str, Any],
    write_limit: Callable[[int], None],
    dry_run: bool = True,
    output: Output = Output(),
    more: Sequence[Callback] = (),
) -> list[Callback]:
    """The callbacks, in order: Lightning calls them so, checkpoints last.

    The state of a step (signals, throughput, metrics) is known before any other callback acts on
    the step.
    """
    signals, throughput = Signals(), Throughput(data)
    metrics = StepMetrics(log_every, throughput, signals)
    printing: list[Callback] = []
    if not output.quiet:
        bar = Bar(metrics) if output.bar else None
        printing = [ValidationLines(bar), bar or ProgressLines(metrics)]
    return [
        *(signals, throughput, metrics, HeldOutScores(data.dev)),
        *more,
        *printing,
        CheckpointMetadata(facts),
        Report(folder, data.folder, monitor, checkpoint_every, facts),
        MicroBatchLimit(data.share, dry_run, write_limit, output.quiet),
        RunCheckpoints(folder, monitor, checkpoint_every, signals),
    ]
