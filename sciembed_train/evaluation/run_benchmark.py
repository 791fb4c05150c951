"""Scores of a model, a baseline or a ranking on a benchmark of the registry."""

from __future__ import annotations

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.trained_titles import told


def run_benchmark(settings: EvaluateSettings, systems: Systems | None = None) -> Scores:
    """The scores.

    Args:
        settings: what is scored, and on which benchmark.
        systems: opens it; given where several benchmarks share a model.

    Raises:
        UserError: anything is wrong with the model or the files.
    """
    name, result = BENCHMARKS[settings.benchmark].load()(settings, systems or Systems())
    note, warning = told(result.settings, settings.data)
    notes = [*result.notes, *([] if note is None else [note])]
    return Scores(
        benchmark=settings.benchmark,
        model=name,
        metrics=result.metrics,
        per_query=result.per_query,
        settings={"data": str(settings.data), **result.settings},
        notes=tuple(notes),
        warning=warning,
        query_texts=result.query_texts,
        test_queries=result.test_queries,
    )
