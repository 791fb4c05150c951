"""Classification and regression: probes learn from labelled papers and predict the test set.

Shapes: ``N`` labelled papers, ``D`` width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.evaluation import probes
from sciembed_train.evaluation.benchmarks.result import Result, counted, mean
from sciembed_train.evaluation.benchmarks.scirepeval.label_files import Labels, read_labels
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import FewShot, Task
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Vectors
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import class_metric, number_metric
from sciembed_train.inference.options import Similarity


class ProbeScorer:
    """A task of classification or regression, whose labels are read at once.

    Raises:
        UserError: the labels cannot be read, or a metric does not fit them.
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

    def asked(self) -> set[str]:
        """See `Scorer`."""
        return set(self.labelled.test.ids)

    def score(self, queries: Vectors, others: Vectors, similarity: Similarity) -> Result:
        """See `Scorer`."""
        task = self.task
        x, y, dropped = self._with_text(self.labelled.train, others, "train")
        test_vectors, truth, dropped_test = self._with_text(self.labelled.test, others, "test")
        result = self._predict(x, y, test_vectors)
        scored = Result(self._values(truth, result.predictions))
        scored.settings = {
            "train": len(x),
            "test": len(test_vectors),
            "labelled_without_text_left_out": dropped + dropped_test,
            "costs": result.costs,
        }
        if self.labelled.classes:
            scored.settings["classes"] = len(self.labelled.classes)
        what = "Labels" if task.multi_label else "Classes"
        constant = "that all or none of the training papers have, the same for every paper"
        untuned = f"Probes with too few papers for a grid, cost {probes.DEFAULT_COST:g}"
        scored.notes = counted(
            {
                "Labelled papers without a text, left out": dropped + dropped_test,
                f"{what} {constant}": result.constant,
                untuned: result.untuned,
                "Probes that stopped before they converged": result.unfinished,
            }
        )
        for few_shot in task.few_shot:
            self._few_shot(few_shot, x, y, test_vectors, truth, scored)
        return scored

    def _with_text(
        self, labels: Labels, vectors: Vectors, split: str
    ) -> tuple[Float32[np.ndarray, "N D"], Any, int]:
        """Vectors and labels of the papers with a text, and the number of those without."""
        kept = np.array([name in vectors for name in labels.ids])
        if not kept.any():
            raise UserError(
                f"task {self.task.name!r}: no labelled paper of {split} has a text in "
                f"{self.task.documents}; `paper_id` there and `doc_id` here must be the same."
            )
        ids = [name for name in labels.ids if name in vectors]
        return vectors.of(ids), labels.values[kept], int((~kept).sum())

    def _predict(self, x: Any, y: Any, test_vectors: Any, grid: bool = True) -> probes.ProbeResult:
        if self.task.type == "regression":
            return probes.regression_probe(x, y, test_vectors)
        if self.task.multi_label:
            return probes.multi_label_probe(x, y, test_vectors)
        return probes.classification_probe(x, y, test_vectors, grid)

    def _values(self, truth: Any, found: Any) -> dict[str, float]:
        return {name: metric(truth, found) for name, metric in self.metrics}

    def _few_shot(
        self, few_shot: FewShot, x: Any, y: Any, test_vectors: Any, truth: Any, scored: Result
    ) -> None:
        """Add the means over few-shot runs."""
        draw = probes.label_samples if self.task.multi_label else probes.class_samples
        try:
            samples = draw(y, few_shot.sample_size, few_shot.iterations)
        except UserError as error:
            raise UserError(f"task {self.task.name!r}: few_shot: {error}") from error
        runs, suffix = {}, f"shot{few_shot.sample_size}"
        for number, sample in enumerate(samples):
            result = self._predict(x[sample], y[sample], test_vectors, grid=False)
            runs[f"{suffix}/run{number}"] = self._values(truth, result.predictions)
        for name, value in mean(runs.values()).items():
            scored.metrics[f"{name}_{suffix}"] = value
        scored.per_query |= runs
        scored.settings[f"{suffix}_runs"] = len(runs)
        if len(runs) < few_shot.iterations:
            scored.notes.append(
                f"Runs of {few_shot.sample_size} papers: {len(runs)}, not {few_shot.iterations}; "
                "there are no more papers."
            )
