"""``report.html`` of a run: one self-contained page.

Everything but the run's state is read from the files of the run and of its corpus, which a resume
keeps right: the page of a continued run has the whole curve.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.summary import describe_report
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import versions
from sciembed_train.progress import print_line
from sciembed_train.report_page import frame
from sciembed_train.report_page.frame import fact_table, paragraph
from sciembed_train.training.callbacks.checkpoints import higher_is_better
from sciembed_train.training.callbacks.signals import Interrupted
from sciembed_train.training.curves import Curve, Point, figure
from sciembed_train.training.results_file import read_results
from sciembed_train.training.run_folder import MetricsCsv
from sciembed_train.training.verdict_panels import verdict_panels

NAME = "report.html"
# What is no loss among the numbers of training, and what a reader calls it.
STEPS = {"lr": "learning rate", "grad_norm": "gradient norm"}
SPEED = {
    "tokens_per_second": "tokens/s",
    "data_time_share": "share of time spent waiting for data",
    "peak_memory_gb": "peak memory, GB",
    "useful_token_share": "useful-token share",
    "bf16_peak_share": "share of the bf16 peak",
    "negatives": "effective negatives",
}


@dataclass
class Metrics:
    """The columns of ``metrics.csv``."""

    columns: dict[str, list[Point]] = field(default_factory=dict)
    odd: int = 0

    @property
    def steps(self) -> tuple[int, int]:
        """The first and the last step with a value; zeros if there is none."""
        ends = [step for points in self.columns.values() for step, _ in (points[0], points[-1])]
        return min(ends, default=0), max(ends, default=0)

    def best(self, monitor: str) -> Point | None:
        """The first step with the best score, and that score; None if it has no number."""
        # As checkpoints are compared: in the 32 bits of what a method logs.
        points = [(step, float(np.float32(value))) for step, value in self.columns.get(monitor, ())]
        sign = 1 if higher_is_better(monitor) else -1
        finite = [point for point in points if not math.isnan(point[1])]
        return max(finite, key=lambda point: sign * point[1], default=None)


def read_metrics(path: Path) -> Metrics:
    """The columns of a ``metrics.csv``; a row with a cell too few, too many or no number is odd."""
    found = Metrics()
    for row in MetricsCsv(path).rows():
        cells: Mapping[Any, Any] = row
        try:
            if None in cells or None in cells.values():
                raise ValueError
            step = int(cells["step"])
            values = {n: float(v) for n, v in cells.items() if n != "step" and v != ""}
        except ValueError:
            found.odd += 1
            continue
        for name, value in values.items():
            found.columns.setdefault(name, []).append((step, value))
    return found


def page(
    run: Path, corpus: Path, monitor: str, title: Sequence[str], facts: Mapping[str, Any]
) -> str:
    """The page's text."""
    metrics = read_metrics(run / "metrics.csv")
    name, *lines = title
    parts = [
        *map(paragraph, lines),
        *verdict_panels(read_results(run)),
        *_panels(metrics, monitor),
        f"<h2>Data</h2>\n{fact_table(facts)}",
        *_corpus(corpus),
        f"<h2>Settings</h2>\n<pre>{escape(_text(run / 'config.yaml'))}</pre>",
        f"<h2>Versions</h2>\n{fact_table(versions())}",
    ]
    return frame.page(name, parts)


def _panels(metrics: Metrics, monitor: str) -> list[str]:
    """The curves in four groups: losses, held-out scores, steps, speed; then whatever is left."""
    columns, best = metrics.columns, metrics.best(monitor)
    step = None if best is None else best[0]
    trained = [name.removeprefix("train/") for name in columns if name.startswith("train/")]
    losses = [name for name in trained if name not in STEPS and name not in SPEED]
    tested = [name.removeprefix("val/") for name in columns if name.startswith("val/")]
    known = {f"train/{name}" for name in trained} | {f"val/{name}" for name in tested}

    def drawn(name: str, shown: str = "", mark: int | None = step) -> str:
        kinds = ("train", "val")
        curves = [Curve(kind, columns.get(f"{kind}/{name}", ())) for kind in kinds]
        present = [curve for curve in curves if curve.points]
        log = name == "grad_norm" or name.endswith("loss")
        return figure(shown or name, present, metrics.steps, best=mark, may_log=log)

    told = '<span class="train">Training</span>, <span class="val">held out</span>, by step; the '
    told += "number is the last one. Pale: every value; over it the median of neighbours."
    if best is not None:
        told += f" Dashed: step {best[0]:,}, where {escape(monitor)} is best, {best[1]:.4f}."
    if metrics.odd:
        told += f" Rows of metrics.csv that cannot be read and are left out: {metrics.odd:,}."
    scores = [name for name in tested if name not in losses]
    scores.sort(key=lambda name: f"val/{name}" != monitor)
    groups = {
        "Loss and its parts": [drawn(name) for name in losses],
        "Validation": [drawn(name) for name in scores],
        "Steps": [drawn(name, shown, None) for name, shown in STEPS.items() if name in trained],
        "Throughput": [
            drawn(name, shown, None) for name, shown in SPEED.items() if name in trained
        ],
        "Others": [
            figure(n, [Curve("train", p)], metrics.steps)
            for n, p in columns.items()
            if n not in known
        ],
    }
    panels = [f'<p class="dim">{told}</p>']
    for heading, figures in groups.items():
        if figures:
            panels.append("\n".join([f"<h2>{heading}</h2>\n<section>", *figures, "</section>"]))
    return panels


def _corpus(folder: Path) -> list[str]:
    """What the corpus holds, and what of the source files was left out."""
    try:
        counts = Corpus.open(folder).info["counts"]
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (UserError, OSError, ValueError) as error:
        return [f"<p>The corpus {escape(str(folder))} tells no more: {escape(str(error))}</p>"]
    return [
        f"<p>Of the corpus {escape(str(folder))}:</p>\n{fact_table(counts)}",
        "<p>What was read, what was left out and why:</p>",
        f"<pre>{escape(describe_report(report))}</pre>",
    ]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else f"There is no {path}."


class Report(Callback):
    """Writes ``report.html`` at each validation and checkpoint, and when the run ends."""

    def __init__(
        self, run: Path, corpus: Path, monitor: str, every: int, facts: Mapping[str, Any]
    ) -> None:
        self.run, self.corpus, self.monitor, self.every = run, corpus, monitor, every
        self.facts = facts
        self._began = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start reporting: the run has begun."""
        self._began = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the page at intervals."""
        if trainer.global_step % self.every == 0:
            self._write(trainer, pl_module, "training")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page with the new scores."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._write(trainer, pl_module, "training")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that the run has finished, or was ended early."""
        finished = trainer.global_step >= trainer.max_steps
        self._write(trainer, pl_module, "finished" if finished else "ended before its last step")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Record the error that ended the run."""
        if not self._began:  # a page of an earlier part of the run is still right
            return
        state = f"stopped by {type(exception).__name__}: {exception}"
        if isinstance(exception, Interrupted):
            state = f"interrupted by {signal.Signals(exception.number).name}"
        self._write(trainer, pl_module, state)

    def _write(self, trainer: Trainer, pl_module: LightningModule, state: str) -> None:
        method = type(pl_module).__name__
        self._write_page(trainer.global_step, trainer.max_steps, method, state)

    def write_end(self, step: int, steps: int, method: str) -> None:
        """Write the page a last time, when the verdict is known.

        Args:
            step: that was made last.
            steps: of the run.
            method: name of the method's class.
        """
        state = "finished" if step >= steps else "ended before its last step"
        self._write_page(step, steps, method, state)

    @rank_zero_only
    def _write_page(self, step: int, steps: int, method: str, state: str) -> None:
        """Write the page, whole or not at all; an error here does not end the run."""
        facts = self.facts
        title = [
            self.run.name,
            f"{method} from {facts.get('base_model', 'an unnamed encoder')}",
            f"Step {step:,} of {steps:,}, {state}. "
            f"Written {time.strftime('%Y-%m-%d %H:%M:%S %z')}.",
        ]
        partial = self.run / f"{NAME}.partial"
        try:
            text = page(self.run, self.corpus, self.monitor, title, facts)
            partial.write_bytes(text.encode("utf-8", "replace"))
            partial.replace(self.run / NAME)
        except Exception as error:  # whatever it is, it is told
            print_line(f"{self.run / NAME} was not written: {type(error).__name__}: {error}")
