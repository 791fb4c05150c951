"""Tasks: data sets with a loss each, after SciRepEval, Singh et al. (2023), section 4.

A text is embedded for a *format*: classification, regression, proximity or search
(`input_format.FORMATS`). Several tasks may share a format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from sciembed_train.errors import UserError

Type = Literal["classification", "regression", "ir", "triplet"]
TaskSplit = Literal["train", "dev"]
Negatives = Literal["drawn", "last"]
TYPES: tuple[Type, ...] = get_args(Type)
TASK_SPLITS: tuple[TaskSplit, ...] = get_args(TaskSplit)
# Splits of a dataset of the ``datasets`` library, the first of them that it has.
DATASET_SPLITS: dict[TaskSplit, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("validation", "dev", "val"),
}


@dataclass(frozen=True)
class TaskBuilding:
    """How the records of tasks become examples.

    Args:
        per_query: triplets of a search with ranked candidates, at most; as many as it has
            negatives where these are fewer.
        negatives: ``drawn``: negatives without replacement, and the order of the positives, by
            seed and record. ``last``: the last of the record's negatives, and its first positives,
            as published.
        dev_in_train: keep training examples that hold a text of a held-out example, as published.

    Raises:
        UserError: ``per_query`` is below 1, or ``negatives`` unknown.
    """

    per_query: int = 5
    negatives: Negatives = "drawn"
    dev_in_train: bool = False

    def __post_init__(self) -> None:
        if self.per_query < 1:
            raise UserError(f"task_building.per_query must be 1 or more; got {self.per_query}.")
        if self.negatives not in get_args(Negatives):
            expected = " or ".join(get_args(Negatives))
            raise UserError(f"task_building.negatives is {self.negatives!r}; expected {expected}.")


@dataclass(frozen=True)
class Source:
    """The records of a task: a file, a folder of files, or a dataset of the ``datasets`` library.

    ``config`` is the dataset's, empty for its only one.
    """

    place: str
    dataset: bool = False
    config: str = ""


@dataclass(frozen=True)
class TaskKind:
    """What a task is, wherever its examples are.

    Args:
        name: no other task has it.
        type: ``classification``, ``regression``, ``ir`` (a search with scored candidates) or
            ``triplet``.
        format: of its texts, a key of `input_format.FORMATS`.
        query_format: of its queries; ``format`` in all but ad-hoc search.
    """

    name: str
    type: Type
    format: str
    query_format: str

    @property
    def labelled(self) -> bool:
        """Whether an example is one text and its label; otherwise it is a triplet."""
        return self.type in ("classification", "regression")


@dataclass(frozen=True)
class Task(TaskKind):
    """One data set and what is trained on it.

    Args:
        sources: of the records by split; without ``dev`` a share of ``train`` is held out.
        fields: of a record, in the order in which they are read.
        labels: the names of the classes, in the order of their numbers.
        labels_from: the file or list of the names, for messages.
        labels_field: the field of a label, of a candidate's score.
        multi_label: whether a text may be of several classes.
        contrastive: whether the classification's loss is mostly a contrastive one.
        sample_size: examples of a split at most; -1 for all.
    """

    sources: Mapping[TaskSplit, Source]
    fields: tuple[str, ...] = ("title", "abstract")
    labels: tuple[str, ...] = ()
    labels_from: str = ""
    labels_field: str = "label"
    multi_label: bool = False
    contrastive: bool = False
    sample_size: Mapping[TaskSplit, int] = field(default_factory=lambda: {"train": -1, "dev": -1})


@dataclass(frozen=True)
class TaskInfo(TaskKind):
    """A task of a corpus, as in its ``tasks.json``: a `Task`, and numbers of examples by split.

    ``examples_by_class`` are those of each class; empty without classes.
    """

    fields: tuple[str, ...]
    labels: tuple[str, ...]
    multi_label: bool
    contrastive: bool
    examples: Mapping[TaskSplit, int]
    examples_by_class: Mapping[TaskSplit, Sequence[int]]

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> TaskInfo:
        """One entry of ``tasks.json``."""
        lists = {name: tuple(entry[name]) for name in ("fields", "labels")}
        return cls(**{**entry, **lists})


def task_fingerprint(tasks: Sequence[Task]) -> str:
    """The SHA-256 of the tasks without the places of their data."""
    values = [
        {
            f.name: getattr(task, f.name)
            for f in fields(task)
            if f.name not in ("sources", "labels_from")
        }
        for task in tasks
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
