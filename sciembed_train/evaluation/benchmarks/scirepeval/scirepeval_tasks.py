"""SciRepEval's list of evaluation tasks, ``scirepeval_tasks.jsonl``: one JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import spell
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import (
    class_metric,
    number_metric,
    ranked_metric,
)
from sciembed_train.evaluation.probes import check_installed

TASK_FILE = "scirepeval_tasks.jsonl"
# What the texts of a task's type are read for (Singh et al. 2023, section 4): queries, and others.
FORMATS_OF = {
    "classification": ("classification", "classification"),
    "regression": ("regression", "regression"),
    "proximity": ("proximity", "proximity"),
    "adhoc_search": ("adhoc_query", "proximity"),
}
# Tasks of which SciRepEval has training data, and which its tables therefore average apart.
IN_TRAIN = (
    *("MeSH", "Fields of study", "Citation Count", "Publication Year"),
    *("Same Author Detection", "Highly Influential Citations", "Search"),
)


@dataclass(frozen=True)
class FewShot:
    """Runs on few training papers."""

    sample_size: int
    iterations: int


@dataclass(frozen=True)
class Task:
    """One data set and how it is scored.

    Args:
        name: of the task.
        type: a key of `FORMATS_OF`.
        documents: the file or dataset of texts.
        labels: the folder of labels, or the dataset without its split.
        reviewers: the folder or dataset of reviewers and their papers; empty for none.
        metrics: as SciRepEval names them.
        multi_label: a paper has several labels.
        few_shot: further runs.
        fields: of which a text is made.
        in_train: it is one of those that models are trained on.
    """

    name: str
    type: str
    documents: str
    labels: str
    reviewers: str
    metrics: tuple[str, ...]
    multi_label: bool
    few_shot: tuple[FewShot, ...]
    fields: tuple[str, ...]
    in_train: bool

    @property
    def probed(self) -> bool:
        """Whether a machine learns from the vectors; otherwise papers are ranked by them."""
        return self.type in ("classification", "regression")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Our names of the metrics."""
        return tuple(_metric(self.type, name, self.multi_label)[0] for name in self.metrics)


def read_tasks(source: str | Path, wanted: Sequence[str] = ()) -> list[Task]:
    """The tasks of a file, or of `TASK_FILE` in a folder: of the names or types wanted, or all.

    Raises:
        UserError: there is no such file, an entry is malformed, or a wanted task is not in it.
    """
    path = Path(source)
    if path.is_dir():
        path = path / TASK_FILE
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; it is SciRepEval's list of tasks.")
    table = Table(path, "tasks")
    tasks: list[Task] = []
    types: dict[str, Any] = {}  # by name
    for at, row in table.rows():
        if isinstance(row, BadRow):
            raise UserError(f"{table.where(at)}: {row.message}")
        name = row.get("name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{table.where(at)}: `name` is {spell(name)}; expected text.")
        if name in types:
            raise UserError(f"{table.where(at)}: the task {name!r} was given before.")
        types[name] = row.get("type")
        if not wanted or name in wanted or types[name] in wanted:
            tasks.append(_Entry(f"{table.where(at)}: task {name!r}", row, path.parent).task(name))
    if not types:
        raise UserError(f"{path} names no task.")
    for name in wanted:
        if name not in types and name not in types.values():
            raise UserError(f"{path} has no task {name!r}; it has {', '.join(map(repr, types))}.")
    return tasks


class _Entry:
    """One object of the list; every error names it."""

    def __init__(self, where: str, row: Mapping[str, Any], base: Path) -> None:
        self.where, self.row, self.base = where, row, base

    def error(self, problem: str) -> UserError:
        return UserError(f"{self.where}: {problem}.")

    def task(self, name: str) -> Task:
        kind = self.row.get("type")
        if kind not in FORMATS_OF:
            raise self.error(f"`type` is {spell(kind)}; it is one of {', '.join(FORMATS_OF)}")
        if kind in ("classification", "regression"):
            check_installed()
        data = self.row.get("data")
        if not isinstance(data, Mapping) or "meta" not in data:
            raise self.error(f"`data` is {spell(data)}; expected an object with meta and test")
        labels = data.get("test") or data["meta"]
        if isinstance(labels, str) and "test" not in data:
            raise self.error("`data` has no test, the folder of the labels")
        multi_label = self.row.get("multi_label", False)
        in_train = self.row.get("in_train", name in IN_TRAIN)
        for key, value in (("multi_label", multi_label), ("in_train", in_train)):
            if not isinstance(value, bool):
                raise self.error(f"`{key}` is {spell(value)}; expected true or false")
        reviewers = data.get("reviewers", "")
        if "reviewers" in data:
            reviewers = self._source(reviewers, "reviewers", "")
        return Task(
            name=name,
            type=kind,
            documents=self._source(data["meta"], "meta", "@evaluation"),
            labels=self._source(labels, "test", ""),
            reviewers=reviewers,
            metrics=self._metrics(kind, multi_label),
            multi_label=multi_label,
            few_shot=self._few_shot(kind),
            fields=self._names("fields", ["title", "abstract"]),
            in_train=in_train,
        )

    def _source(self, value: Any, key: str, split: str) -> str:
        """A file or folder beside the list, or a dataset as `Table` names it."""
        if isinstance(value, str) and value:
            return str(self.base / value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise self.error(
                f"`data.{key}` is {spell(value)}; expected a place or {{name, config}}"
            )
        config = value.get("config")
        return f"{value['name']}{f':{config}' if config else ''}{split}"

    def _names(self, key: str, default: list[str]) -> tuple[str, ...]:
        value = self.row.get(key) or default
        if not isinstance(value, list) or not all(isinstance(n, str) and n for n in value):
            raise self.error(f"`{key}` is {spell(value)}; expected a list of names")
        return tuple(dict.fromkeys(value))

    def _metrics(self, kind: str, multi_label: bool) -> tuple[str, ...]:
        names = self._names("metrics", [])
        if not names:
            raise self.error("`metrics` names none")
        for name in names:
            try:
                _metric(kind, name, multi_label)
            except UserError as error:
                raise UserError(f"{self.where}: {error}") from error
        return names

    def _few_shot(self, kind: str) -> tuple[FewShot, ...]:
        entries = self.row.get("few_shot") or []
        if entries and kind != "classification":
            raise self.error(f"`few_shot` is for a classification, and the type is {kind}")
        runs_of = []
        for one in entries:
            known = dict(one) if isinstance(one, Mapping) else {}
            size, runs = known.get("sample_size"), known.get("iterations")
            if not (isinstance(size, int) and isinstance(runs, int) and min(size, runs) > 0):
                raise self.error(
                    f"`few_shot` has {spell(one)}; expected {{sample_size, iterations}}, above 0"
                )
            runs_of.append(FewShot(size, runs))
        return tuple(runs_of)


def _metric(kind: str, name: str, multi_label: bool) -> tuple[str, Any]:
    if kind == "classification":
        return class_metric(name, multi_label)
    return number_metric(name) if kind == "regression" else ranked_metric(name)
