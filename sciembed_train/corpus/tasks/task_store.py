"""The tasks of a prepared corpus, opened for reading.

Reading needs numpy alone, except for the texts, which are in Parquet for people and for the
tokenizer. `build_tasks` describes the files.

Shapes: ``N`` examples of a split of a task, ``C`` its classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.checksums import check_file
from sciembed_train.corpus.store.token_store import check_numbers, load_array
from sciembed_train.corpus.tasks.task_types import TaskInfo, TaskSplit
from sciembed_train.errors import UserError


class TaskFolder:
    """The tasks of a corpus; their distinct texts are the integers from 0 to below ``n_texts``.

    Raises:
        UserError: the corpus was prepared without tasks, or is damaged.
    """

    def __init__(self, folder: Path, n_texts: int) -> None:
        self.folder, self.n_texts = folder, n_texts
        path = folder / "tasks.json"
        if not path.is_file():
            raise UserError(
                f"{folder} holds no tasks. Prepare a corpus from them: `train prepare --tasks "
                "FILE_OR_FOLDER --to CORPUS --tokenizer NAME_OR_FOLDER`."
            )
        check_file(path)
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            self.tasks = tuple(TaskInfo.from_dict(entry) for entry in entries)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}). Run prepare again.") from error

    @cached_property
    def by_name(self) -> Mapping[str, TaskInfo]:
        """The tasks by their names."""
        return {task.name: task for task in self.tasks}

    def examples(self, name: str, split: TaskSplit) -> NDArray[np.int32]:
        """Texts of a task's examples: ``[N, 3]`` query, positive, negative; or ``[N]``."""
        path = self.folder / "tasks" / name / f"{split}.npy"
        examples = load_array(path)
        check_numbers(examples, path, self.n_texts)
        return examples

    def labels(self, name: str, split: TaskSplit) -> NDArray[Any]:
        """The label of each text: the number of its class, int32 ``[N]``; whether it is of each
        class, uint8 ``[N, C]``; or the target of a regression, float32 ``[N]``.

        Raises:
            ValueError: the task is one of triplets, which have no labels.
        """
        task = self.by_name[name]
        if not task.labelled:
            raise ValueError(f"task {name} is one of triplets: it has no labels")
        end = "labels" if task.multi_label else "label"
        return load_array(self.folder / "tasks" / name / f"{split}.{end}.npy")

    def texts(self) -> Iterator[list[str]]:
        """The fields of every text in order, a batch in memory."""
        import pyarrow.parquet as pq

        check_file(self.folder / "task_texts.parquet")
        with pq.ParquetFile(self.folder / "task_texts.parquet") as file:
            for rows in file.iter_batches(batch_size=4096, columns=["fields"]):
                yield from rows.column("fields").to_pylist()
