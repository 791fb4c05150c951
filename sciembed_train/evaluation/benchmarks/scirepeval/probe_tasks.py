"""Classification and regression: probes learn from labelled papers and tell those of the test set.

Shapes: ``N`` labelled papers, ``D`` width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.evaluation import probes
from sciembed_train.evaluation.benchmarks.result import mean
from sciembed_train.evaluation.benchmarks.scirepeval.label_files import Labels, read_labels
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import FewShot, Task
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Scored, Vectors
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import class_metric, number_metric
from sciembed_train.inference.options import Similarity


class Probing:
    """A task of classification or regression.

    Args:
        task: its labels are read at once.

    Raises:
        UserError: they cannot be, or a metric does not fit them.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.labelled = read_labels(task.labels, task.type, task.multi_label)
        if task.type == "regression":
            self.metrics = [number_metric(name) for name in task.metrics]
        else:
            self.metrics = [class_metric(name, task.multi_label) for name in task.metrics]
        classes = self.labelled.classes
        if any(name.endswith("_binary") for name, _ in self.metrics) and classes != ["0", "1"]:
            raise UserError(
                f"task {task.name!r}: a metric of one class needs the labels 0 and 1, and "
                f"{task.labels} has {', '.join(classes[:5])}. Give the metric with _macro."
            )

    def wanted(self) -> tuple[set[str], set[str]]:
        """See `Scorer`."""
        return set(), {*self.labelled.train.ids, *self.labelled.test.ids}

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Scored:
        """See `Scorer`."""
        task = self.task
        x, y, lost = self._there(self.labelled.train, others, "train")
        new, truth, lost_test = self._there(self.labelled.test, others, "test")
        told = self._tell(x, y, new)
        found = Scored(self._values(truth, told.found))
        found.settings = {
            "train": len(x),
            "test": len(new),
            "labelled_without_text_left_out": lost + lost_test,
            "costs": told.costs,
        }
        if self.labelled.classes:
            found.settings["classes"] = len(self.labelled.classes)
        if lost + lost_test:
            found.notes.append(f"Labelled papers without a text, left out: {lost + lost_test}.")
        self._tell_of(told, found)
        for few in task.few_shot:
            self._few_shot(few, x, y, new, truth, found)
        return found

    def _there(
        self, labels: Labels, vectors: Vectors, split: str
    ) -> tuple[Float32[np.ndarray, "N D"], Any, int]:
        """Vectors and labels of the papers that have a text, and how many have none."""
        kept = np.array([name in vectors for name in labels.ids])
        if not kept.any():
            raise UserError(
                f"task {self.task.name!r}: no labelled paper of {split} has a text in "
                f"{self.task.documents}; `paper_id` there and `doc_id` here must be the same."
            )
        ids = [name for name in labels.ids if name in vectors]
        return vectors.of(ids), labels.values[kept], int((~kept).sum())

    def _tell(self, x: Any, y: Any, new: Any, grid: bool = True) -> probes.ProbeScore:
        if self.task.type == "regression":
            return probes.regression_probe(x, y, new)
        if self.task.multi_label:
            return probes.multi_label_probe(x, y, new)
        return probes.classification_probe(x, y, new, grid)

    def _values(self, truth: Any, found: Any) -> dict[str, float]:
        return {name: metric(truth, found) for name, metric in self.metrics}

    def _tell_of(self, told: probes.ProbeScore, found: Scored) -> None:
        """Notes of what a probe could not do as it should."""
        what = "Labels" if self.task.multi_label else "Classes"
        for count, note in (
            (told.constant, f"{what} that all or none of the training papers have, told alike"),
            (
                told.untuned,
                f"Probes without papers enough for a grid, cost {probes.DEFAULT_COST:g}",
            ),
            (told.unfinished, "Probes that stopped before they had converged"),
        ):
            if count:
                found.notes.append(f"{note}: {count}.")

    def _few_shot(self, few: FewShot, x: Any, y: Any, new: Any, truth: Any, found: Scored) -> None:
        """Add the means over runs on few papers."""
        draw = probes.label_samples if self.task.multi_label else probes.class_samples
        try:
            samples = draw(y, few.sample_size, few.iterations)
        except UserError as error:
            raise UserError(f"task {self.task.name!r}: few_shot: {error}") from error
        runs, end = {}, f"shot{few.sample_size}"
        for number, sample in enumerate(samples):
            told = self._tell(x[sample], y[sample], new, grid=False)
            runs[f"{end}/run{number}"] = self._values(truth, told.found)
        for name, value in mean(runs.values()).items():
            found.metrics[f"{name}_{end}"] = value
        found.per_query |= runs
        found.settings[f"{end}_runs"] = len(runs)
        if len(runs) < few.iterations:
            found.notes.append(
                f"Runs of {few.sample_size} papers: {len(runs)}, not {few.iterations}; there are "
                "no more papers."
            )
