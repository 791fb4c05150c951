"""The callbacks of a run, in the order in which they must act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from sciembed_train.config.run_settings import RunSettings
from sciembed_train.encoder.io.training_titles import Titles
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.training.callbacks.checkpoint_metadata import CheckpointMetadata
from sciembed_train.training.callbacks.checkpoints import RunCheckpoints, higher_is_better
from sciembed_train.training.callbacks.collapse import Collapse
from sciembed_train.training.callbacks.finite_numbers import FiniteNumbers
from sciembed_train.training.callbacks.micro_batch_limit import MicroBatchLimit
from sciembed_train.training.callbacks.progress import (
    Bar,
    DurationLine,
    ProgressLines,
    ValidationLines,
)
from sciembed_train.training.callbacks.signals import Signals
from sciembed_train.training.callbacks.step_metrics import StepMetrics
from sciembed_train.training.callbacks.throughput import Throughput
from sciembed_train.training.callbacks.time_left import TimeLeft
from sciembed_train.training.callbacks.validation import HeldOutScores
from sciembed_train.training.callbacks.watched_ranks import RankErrors, RankSteps
from sciembed_train.training.callbacks.weight_averaging import WeightAveraging
from sciembed_train.training.rank_watch import RankWatch
from sciembed_train.training.report import Report
from sciembed_train.training.validation_benchmarks import ValidationBenchmarks


def run_callbacks(
    folder: Path,
    data: TrainingData,
    run: RunSettings,
    *,
    log_every: int,
    facts: Mapping[str, Any],
    write_limit: Callable[[int], None],
    bar: bool,
    own: Sequence[Callback],
    watch: RankWatch,
    titles: Titles | None = None,
    benchmarks: ValidationBenchmarks | None = None,
) -> list[Callback]:
    """The callbacks, in order: Lightning calls them so, checkpoints last.

    A step that is not finite ends the run before it is logged. The state of a step (signals,
    throughput, metrics) is known before any other callback acts on the step; ``own`` are the
    user's. ``bar`` asks for a progress bar in place of a line at an interval, ``write_limit`` keeps
    the tokens of a micro-batch with the run's settings. ``titles`` are of the papers that training
    reads, ``benchmarks`` what is validated beside the held-out examples.
    """
    signals, throughput = Signals(), Throughput(data)
    metrics, time_left = StepMetrics(log_every, throughput, signals), TimeLeft()
    held_out, monitor = HeldOutScores(data.examples.dev, benchmarks), run.checkpoint.monitor
    callbacks = [
        RankErrors(watch),
        FiniteNumbers(folder, data, run.nonfinite, log_every),
        *(signals, throughput, metrics, time_left, WeightAveraging()),
        *(held_out, Collapse(metrics, data), *own),
    ]
    if (stopping := run.early_stopping) is not None:
        callbacks.append(
            EarlyStopping(
                monitor=stopping.monitor,
                patience=stopping.patience,
                min_delta=stopping.min_delta,
                mode="max" if higher_is_better(stopping.monitor) else "min",
                check_on_train_epoch_end=False,
                check_finite=False,  # nan is no better score; it would end the run without a word
            )
        )
    if not run.quiet:
        progress = Bar(metrics) if bar else None
        callbacks += [
            ValidationLines(held_out, monitor, progress),
            DurationLine(time_left, progress),
            progress or ProgressLines(metrics, held_out, monitor, time_left),
        ]
    every = run.checkpoint.every
    return [
        *callbacks,
        CheckpointMetadata(facts, folder, titles),
        Report(folder, data.folder, monitor, every, facts),
        MicroBatchLimit(data.share, run.memory_dry_run, write_limit, run.quiet),
        RankSteps(watch),
        RunCheckpoints(folder, monitor, every, signals),
    ]
