"""SciRepEval, Singh et al. (2023): every task of a list, and the averages of its tables.

A text that several tasks ask for in the same format is embedded once, in float32; only texts that
a label or judgement names are embedded. SciRepEval's own cache rounds to float16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sciembed_train.evaluation.benchmarks.result import Result, described
from sciembed_train.evaluation.benchmarks.scirepeval.probe_tasks import ProbeScorer
from sciembed_train.evaluation.benchmarks.scirepeval.ranking_tasks import (
    RankingScorer,
    ReviewerScorer,
)
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_files import read_texts
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import (
    FORMATS_OF,
    Task,
    read_tasks,
)
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Scorer, Vectors
from sciembed_train.evaluation.by_format import Embedder
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import TIE_RULES, TieRule
from sciembed_train.evaluation.trained_titles import WatchedEmbedder
from sciembed_train.progress import Progress

# Values of the tables that SPECTER2 was published with; S2AND, scored by a program of its own, is
# one of the 20.
IN_TRAIN_VALUES, OTHER_VALUES = 7, 20
SCIDOCS = "SciDocs "
ERRORS = ("mse",)  # larger is worse: in no average


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    embedder = systems.embedder(settings)
    result = evaluate(settings.data, embedder, settings.task_names, settings.quiet, settings.ties)
    return described(embedder, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder has a list of tasks."""
    return (folder / "scirepeval_tasks.jsonl").is_file()


def evaluate(
    source: str | Path,
    embedder: Embedder,
    wanted: Sequence[str] = (),
    quiet: bool = True,
    ties: TieRule = "expected",
) -> Result:
    """The scores of a model on the tasks of a list: those named, or of the types named, or all.

    ``ties`` says how candidates at equal distances are ordered.

    Raises:
        UserError: the list, a label or a text cannot be read, or a task has nothing to score.
    """
    tasks = read_tasks(source, wanted)
    progress = Progress(quiet)
    scorers = [_open(task, ties) for task in tasks]  # what is wrong with labels ends it here
    groups: dict[tuple[str, ...], list[Scorer]] = {}
    for scorer in scorers:
        task = scorer.task
        groups.setdefault((task.documents, *task.fields, *FORMATS_OF[task.type]), []).append(scorer)
    scored: dict[str, Result] = {}
    notes: list[str] = []
    for group in groups.values():
        queries, others, empty = _embed(group, embedder)
        if empty:
            documents = group[0].task.documents
            notes.append(f"Empty texts of {documents}, embedded all the same: {empty}.")
        for scorer in group:
            name = scorer.task.name
            with progress.stage(f"scoring {name}"):
                scored[name] = scorer.score(queries, others, embedder.similarity)
    result = _result(tasks, scored, notes)
    result.settings["ties"] = TIE_RULES[ties]
    return result


def _open(task: Task, ties: TieRule) -> Scorer:
    if task.probed:
        return ProbeScorer(task)
    return ReviewerScorer(task, ties) if task.reviewers else RankingScorer(task, ties)


def _embed(group: Sequence[Scorer], embedder: Embedder) -> tuple[Vectors, Vectors, int]:
    """Vectors of the queries and of the other texts of tasks on the same file, and empty texts."""
    task = group[0].task
    query_format, read = FORMATS_OF[task.type]
    wanted = [scorer.wanted() for scorer in group]
    queries = {name for one, _ in wanted for name in one}
    others = {name for _, one in wanted for name in one}
    apart = query_format != read  # else a query is a text like the others
    if not apart:
        others |= queries
    texts = read_texts(task.documents, task.fields, queries if apart else None, others)
    if isinstance(embedder, WatchedEmbedder):
        asked = {name for scorer in group for name in scorer.asked()}
        every = {**texts.others, **texts.queries} if apart else texts.others
        candidates = (text for name, text in texts.others.items() if apart or name not in asked)
        embedder.count((text for name, text in every.items() if name in asked), candidates)
    rest = Vectors(texts.others, embedder.embed(texts.others, read))
    if not apart:
        return rest, rest, texts.empty
    first = Vectors(texts.queries, embedder.embed(texts.queries, query_format))
    return first, rest, texts.empty


def _result(tasks: Sequence[Task], scored: Mapping[str, Result], notes: list[str]) -> Result:
    """The scores of all tasks in the order of the list, and their averages."""
    result = Result({}, {}, {"tasks": {}}, notes)
    for task in tasks:
        one = scored[task.name]
        result.metrics |= {f"{task.name}/{name}": value for name, value in one.metrics.items()}
        result.per_query |= {f"{task.name}/{name}": row for name, row in one.per_query.items()}
        result.settings["tasks"][task.name] = {"type": task.type, **one.settings}
        result.notes += [f"{task.name}: {note}" for note in one.notes]
    result.settings["queries"] = sum(one.settings.get("queries", 0) for one in scored.values())
    if len(tasks) > 1:
        means, counts = averages({task: scored[task.name].metrics for task in tasks})
        result.metrics |= {f"average/{name}": value for name, value in means.items()}
        result.settings["averaged_values"] = counts
        if (counts["in_train"], counts["out_of_train"]) != (IN_TRAIN_VALUES, OTHER_VALUES):
            result.notes.append(
                f"The averages are of {counts['in_train']} values of tasks with training data and "
                f"{counts['out_of_train']} others; the published ones are of {IN_TRAIN_VALUES} "
                f"and {OTHER_VALUES}, S2AND among them, which has a program of its own."
            )
    return result


def averages(
    scores: Mapping[Task, Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, int]]:
    """Means over values, as the two published tables take them, and how many values each is of.

    A value is a metric that the list names for a task, so that a task with two counts twice;
    reviewer matching is one value, the mean of its four. Few-shot runs are in none.

    - ``in_train``, ``out_of_train``, ``weighted_7_20``: SPECTER2's table; the last is
      ``(7 in_train + 20 out_of_train) / 27``, whatever the number of values here.
    - ``in_train``, ``out_of_train_without_scidocs``, ``scidocs``, ``all_values``: SciRepEval's.
    - ``all_tasks``: each task counts once, whatever its metrics.
    """
    values: dict[Task, list[float]] = {}
    for task, metrics in scores.items():
        if task.reviewers and not task.probed:
            values[task] = [float(np.mean(list(metrics.values())))]
        else:
            names = [name for name in task.metric_names if name not in ERRORS]
            values[task] = [metrics[name] for name in names]
    scidocs = [task for task in values if task.name.startswith(SCIDOCS)]
    groups = {
        "in_train": [v for task in values if task.in_train for v in values[task]],
        "out_of_train": [v for task in values if not task.in_train for v in values[task]],
        "out_of_train_without_scidocs": [
            v for task in values if not task.in_train and task not in scidocs for v in values[task]
        ],
        "scidocs": [v for task in scidocs for v in values[task]],
        "all_values": [v for task in values for v in values[task]],
        "all_tasks": [float(np.mean(row)) for row in values.values() if row],
    }
    means = {name: float(np.mean(group)) for name, group in groups.items() if group}
    if "in_train" in means and "out_of_train" in means:
        weighted = IN_TRAIN_VALUES * means["in_train"] + OTHER_VALUES * means["out_of_train"]
        means["weighted_7_20"] = weighted / (IN_TRAIN_VALUES + OTHER_VALUES)
    return means, {name: len(group) for name, group in groups.items()}
