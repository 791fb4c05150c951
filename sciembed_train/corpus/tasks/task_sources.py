"""The records of a task from files, or from a dataset that is read as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers import hub_datasets
from sciembed_train.corpus.readers.base import Row
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.tasks.task_types import DATASET_SPLITS, TASK_SPLITS, Task, TaskSplit
from sciembed_train.errors import UserError


class Records:
    """The records of a split of a task, read from their beginning at every call of `rows`."""

    def __init__(self, table: Table | None, stream: hub_datasets.Stream | None, name: str) -> None:
        self.table, self.stream, self.name = table, stream, name

    def rows(self) -> Iterator[Row]:
        """Every record and its place; a `UserError` if a file or stream cannot be read."""
        if self.table is not None:
            yield from self.table.rows()
        elif self.stream is not None:
            yield from enumerate(self.stream.rows(), 1)

    def where(self, place: int) -> str:
        """A record's place as a message shows it."""
        if self.table is not None:
            return self.table.where(place)
        return f"{self.name}, record {place}"

    def checksums(self) -> list[dict[str, Any]]:
        """Name, SHA-256 and size of each file."""
        if self.table is not None:
            return self.table.checksums()
        assert self.stream is not None
        return [{"name": self.name, "sha256": self.stream.fingerprint, "bytes": None}]


def open_records(task: Task) -> dict[TaskSplit, Records]:
    """The records of a task by split; without those of dev where there are none.

    Raises `UserError` if there is no such file, or the dataset cannot be loaded.
    """
    train = task.sources["train"]
    if not train.dataset:
        by_split: dict[TaskSplit, Records] = {}
        for split, source in task.sources.items():
            needed = (*task.fields, task.labels_field, "query")
            table = Table(source.place, f"task {task.name}", needed=needed)
            by_split[split] = Records(table, None, source.place)
        return by_split
    streams = hub_datasets.open_streams(train.place, train.config)
    by_split = {}
    for split in TASK_SPLITS:
        name = next((name for name in DATASET_SPLITS[split] if name in streams), None)
        if name is not None:
            config = f":{train.config}" if train.config else ""
            short = Path(train.place).name if Path(train.place).is_dir() else train.place
            by_split[split] = Records(None, streams[name], f"{short}{config}@{name}")
    if "train" not in by_split:
        raise UserError(
            f"{train.place} has no split {DATASET_SPLITS['train'][0]} (task {task.name!r}); it has "
            f"{', '.join(streams) or 'none'}."
        )
    return by_split


def source_files(records: Mapping[TaskSplit, Records], name: str) -> list[dict[str, Any]]:
    """The files of a task, for ``corpus.json``."""
    return [
        {"task": name, "split": split, **file}
        for split, part in records.items()
        for file in part.checksums()
    ]
