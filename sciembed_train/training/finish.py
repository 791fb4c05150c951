"""The end of a run: weights, projection, export, verdict, report, and a summary for a person."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_checkpoint import (
    STATE_PREFIX,
    describe,
    encoder_from_checkpoint,
)
from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import (
    FINAL,
    TRAINED,
    card_of,
    find_checkpoint,
    load_checkpoint,
    titles_of,
)
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.inference.output_file import write_json
from sciembed_train.methods.base import Method
from sciembed_train.methods.nested import score_names
from sciembed_train.progress import print_line
from sciembed_train.training.callbacks.collapse import Collapse
from sciembed_train.training.callbacks.finite_numbers import FiniteNumbers
from sciembed_train.training.comparison import StartComparison, training_choices
from sciembed_train.training.configuration import RunConfiguration
from sciembed_train.training.loggers import log_summary
from sciembed_train.training.projection_stage import VECTORS, ProjectionStage
from sciembed_train.training.report import Report, read_metrics
from sciembed_train.training.results_file import NAME, read_results
from sciembed_train.training.summary import summary_lines, width_lines


def finish(
    run: RunConfiguration,
    method: Method,
    trainer: Trainer,
    comparison: StartComparison | None,
    stage: ProjectionStage | None,
    steps: int,
) -> None:
    """Choose the weights, export them, and give the verdict; the first rank calls it.

    Args:
        run: the settings.
        method: that was trained.
        trainer: that trained it.
        comparison: with the start, if there is one.
        stage: learns a projection, if one is to be learned.
        steps: optimiser steps that the run has made.
    """
    folder = run.folder
    assert folder is not None
    if not run.run.export and comparison is None and stage is None:
        _close(trainer)
        return
    path = find_checkpoint(folder, TRAINED)
    content = load_checkpoint(path)
    encoder = encoder_from_checkpoint(content, str(path))
    widths = _widths(folder, method, content["global_step"])
    share = results = projection = kept = None
    if comparison is not None:
        try:
            share = comparison.choose(encoder)
        except UserError as error:  # an export is not lost for it
            print(f"There is no verdict: {error}", file=sys.stderr)
            encoder = encoder_from_checkpoint(content, str(path))
    if stage is not None:
        try:
            alpha = stage.mix(encoder) if share is None else share.alpha
            projection, kept = stage.learn(encoder.to(stage.embed.device))
            projection["alpha"] = alpha
        except UserError as error:
            print(f"No projection is learned: {error}", file=sys.stderr)
            if share is None:
                encoder = encoder_from_checkpoint(content, str(path))
    if comparison is not None and share is not None:
        try:
            choices = training_choices(run, method)
            results = comparison.after(encoder, share, choices, projection, kept)
        except UserError as error:
            print(f"There is no verdict: {error}", file=sys.stderr)
    if projection is not None:
        content["sciembed"]["projection_learning"] = projection
    # A stage that failed is tried again by the next start.
    settings = _end_settings(comparison, None if projection is None else stage)
    content["sciembed"]["end_settings"] = settings
    if results is not None:
        results.settings = settings
        results.run = _facts(run, path, content) | ({"widths": widths} if widths else {})
        content["sciembed"]["verdict"] = results.for_card()
    if results is not None or projection is not None:
        _write_final(trainer, folder / FINAL, content, encoder)
    else:
        (folder / FINAL).unlink(missing_ok=True)  # of other settings of the end
    shutil.rmtree(folder / VECTORS, ignore_errors=True)
    card = card_of(content)
    if run.run.export:
        titles = titles_of(content)
        export_encoder(encoder, folder / "export", card, titles=titles, overwrite=True)
        if not run.run.quiet and results is None:
            print(f"exported {path.name} to {folder / 'export'}", file=sys.stderr)
            for line in width_lines(widths):
                print(line, file=sys.stderr)
    if results is None:
        _close(trainer)
        return
    write_json(folder / NAME, results.as_dict())
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Report):
            callback.write_end(steps, run.total, type(method).__name__)
    log_summary(trainer.loggers, results.as_dict())
    _print(run, results.as_dict(), trainer)


def finish_again(
    run: RunConfiguration,
    method: Method,
    trainer: Trainer,
    comparison: StartComparison | None,
    stage: ProjectionStage | None,
    steps: int,
) -> None:
    """Complete a run whose training is done: make what is missing, or print its verdict again.

    What was made with other settings of the end is made again. The arguments are those of `finish`.
    """
    folder = run.folder
    assert folder is not None
    results = None if comparison is None else read_results(folder)
    missing = run.run.export and not (folder / "export").exists()
    settings = _end_settings(comparison, stage)
    if comparison is not None:
        missing = missing or results is None or results.get("settings") != settings
    else:
        missing = missing or _projection_made(folder) != settings["projection"]
    if missing:
        finish(run, method, trainer, comparison, stage, steps)
    elif results is not None:
        _print(run, results, trainer)


def _end_settings(
    comparison: StartComparison | None, stage: ProjectionStage | None
) -> dict[str, Any]:
    """The settings that the end of a run depends on, beside its training, as plain values."""
    return {
        "verdict": None if comparison is None else asdict(comparison.settings),
        "projection": None if stage is None else asdict(stage.settings) | {"alpha": stage.alpha},
    }


def _projection_made(folder: Path) -> dict[str, Any] | None:
    """The settings of the projection that a finished run learned; None where it learned none."""
    path = folder / FINAL
    if not path.is_file():
        return None
    return load_checkpoint(path)["sciembed"].get("end_settings", {}).get("projection")


def _write_final(
    trainer: Trainer, path: Path, content: Mapping[str, Any], encoder: Encoder
) -> None:
    """Write a checkpoint of the exported weights, which only `export` reads."""
    state = {f"{STATE_PREFIX}{key}": value.cpu() for key, value in encoder.state_dict().items()}
    record = {**content["sciembed"], **describe(encoder, path.parent)}  # LoRA is merged by now
    final = {"state_dict": state, "global_step": content["global_step"], "sciembed": record}
    trainer.strategy.checkpoint_io.save_checkpoint(final, path)


def _facts(run: RunConfiguration, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen checkpoint, and the score that chose it."""
    assert run.folder is not None
    monitor = run.run.checkpoint.monitor
    best = read_metrics(run.folder / "metrics.csv").best(monitor)
    chosen = path.name == "best.ckpt" and best is not None
    return {
        "name": run.folder.name,
        "checkpoint": path.name,
        "step": content["global_step"],
        "monitor": monitor,
        "score": best[1] if best is not None and chosen else None,
        "steps": run.total,
    }


def _widths(folder: Path, method: Method, step: int) -> dict[str, float]:
    """The held-out score of a step at the full width and at each that was trained; may be empty.

    It is empty where none was trained, and where the step was not validated. Scores that are not
    finite are left out.
    """
    names = score_names(method.nested_score, method.nested.dims)
    if method.nested_score is None or not names:
        return {}
    columns = read_metrics(folder / "metrics.csv").columns
    rows = {name: dict(columns.get(name, ())) for name in (method.nested_score, *names)}
    found = {name: values.get(step, math.nan) for name, values in rows.items()}
    return {name: score for name, score in found.items() if math.isfinite(score)}


def _close(trainer: Trainer) -> None:
    """Repeat the warnings of callbacks in the run's last lines, where they are read."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, FiniteNumbers | Collapse):
            for line in callback.closing_lines:
                print_line(line)


def _print(run: RunConfiguration, results: Mapping[str, Any], trainer: Trainer) -> None:
    """Print summary and warnings to standard error, and the verdict to standard output."""
    assert run.folder is not None
    if not run.run.quiet:
        for line in summary_lines(results, run.folder, run.run.export):
            print(line, file=sys.stderr)
    _close(trainer)
    sys.stderr.flush()
    print(results["verdict"]["line"], flush=True)
