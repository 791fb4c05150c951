"""The tasks of a corpus folder: examples as numbers of texts, each text once.

``task_texts.parquet`` holds the texts of all tasks, those of held-out examples first.
``tasks/<name>/<split>.npy`` holds a task's examples: int32 ``[N, 3]`` (query, positive, negative)
or ``[N]`` (the text of each label). Beside it lie the labels: ``<split>.label.npy``, int32 ``[N]``
(the number of the class) or float32 ``[N]`` (the target of a regression), or
``<split>.labels.npy``, uint8 ``[N, C]`` (whether the text is of each class). ``tasks.json``
describes the tasks.
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import in_brackets, list_reasons
from sciembed_train.corpus.build_job import BuildJob
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.tasks.task_examples import PendingExamples, TaskReader, digest
from sciembed_train.corpus.tasks.task_records import Text
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, TaskSplit
from sciembed_train.errors import UserError

HELD_OUT = "a text of it is in a held-out example"
NOT_DRAWN = "not drawn: there are more than sample_size"


class TaskTexts(ParquetRows):
    """Numbers the distinct texts of tasks, and writes them in the order of their numbers."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        columns = {"text": pa.int32(), "fields": pa.list_(pa.string())}
        super().__init__(path, columns, use_dictionary=False)
        self.numbers: dict[bytes, int] = {}

    def number(self, key: bytes, text: Text) -> int:
        """The number of the text with a `digest`, which is written if it is new."""
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            self.add(self.numbers[key], text)
        return self.numbers[key]


def build_tasks(job: BuildJob) -> dict[str, Any]:
    """Read every task and write its examples; counts for ``corpus.json``.

    A task without records of dev has a share of its texts, or queries, held out; the same texts
    in every task.

    Raises:
        UserError: a source cannot be read, more records are malformed than allowed, or a task has
            no training example.
    """
    tasks, folder = job.inputs.tasks, job.folder
    assert tasks is not None
    job.report["tasks"] = {"tasks": len(tasks.tasks), "notes": list(tasks.notes)}
    job.work.mkdir()
    tasks_pending = [
        TaskReader(task, records, job.settings, job.exclusions).read(
            job.work / f"{number}.records", job.progress
        )
        for number, (task, records) in enumerate(zip(tasks.tasks, job.inputs.records, strict=True))
    ]
    with (
        TaskTexts(folder / "task_texts.parquet") as texts,
        job.progress.stage("task examples") as stage,
    ):
        # Held-out texts have the first numbers, which shows whether a training example holds one.
        first_free = 0
        for split in ("dev", "train"):
            for pending in tasks_pending:
                _write(folder / "tasks" / pending.task.name, pending, split, texts, first_free)
                stage.reach(stage.done + pending.counts[split])
            first_free = 0 if job.settings.task_building.dev_in_train else len(texts.numbers)
    for pending in tasks_pending:
        pending.file.path.unlink()
        job.report |= _account(pending)
        if not pending.counts["train"]:
            raise UserError(_no_examples_message(pending))
    description = json.dumps(
        [_describe(pending) for pending in tasks_pending], indent=1, ensure_ascii=False
    )
    (folder / "tasks.json").write_text(description + "\n", encoding="utf-8")
    counts = {pending.task.name: dict(pending.counts) for pending in tasks_pending}
    job.work.rmdir()
    return {"task_texts": len(texts.numbers), "tasks": counts}


def _write(
    to: Path, pending: PendingExamples, split: TaskSplit, texts: TaskTexts, first_free: int
) -> None:
    """Write a split's examples without those that hold a text below ``first_free``."""
    task, number = pending.task, TASK_SPLITS.index(split)
    source = pending.source(split)
    audit, where = pending.audits[source], pending.records[source].where
    sampler = pending.samplers[split]
    chooser = sampler.chooser(lambda: pending.file.keys(number))
    rows, labels = array("i"), array("d" if task.type == "regression" else "i")
    flags: list[bytes] = []
    drawn = 0
    for record, place in pending.file.records(number, chooser):
        drawn += 1
        keys = [digest(text) for text in record.texts]
        if first_free and any(texts.numbers.get(key, first_free) < first_free for key in keys):
            audit.drop(HELD_OUT, where(place))
            audit.kept -= 1
            continue
        numbers = [texts.number(key, text) for key, text in zip(keys, record.texts, strict=True)]
        if not task.labelled:
            for positive, negative in record.pairs:
                rows.extend((numbers[0], numbers[positive], numbers[negative]))
            continue
        rows.append(numbers[0])
        if isinstance(record.label, tuple):
            flags.append(bytes(c in record.label for c in range(len(task.labels))))
        elif record.label is not None:
            labels.append(record.label)  # pyright: ignore[reportArgumentType]
    if drawn < sampler.records:
        audit.drop_many(NOT_DRAWN, sampler.records - drawn, ())
        audit.kept -= sampler.records - drawn
    to.mkdir(parents=True, exist_ok=True)
    examples = np.array(rows, np.int32)
    examples = examples if task.labelled else examples.reshape(-1, 3)
    np.save(to / f"{split}.npy", examples)
    pending.counts[split] = len(examples)
    if task.multi_label:
        classes = np.frombuffer(b"".join(flags), np.uint8).reshape(-1, len(task.labels))
        np.save(to / f"{split}.labels.npy", classes)
        pending.by_class[split] = classes.sum(0, dtype=np.int64).tolist()
    elif task.labelled:
        kind = np.float32 if task.type == "regression" else np.int32
        values = np.array(labels, kind)
        np.save(to / f"{split}.label.npy", values)
        if task.type == "classification":
            pending.by_class[split] = np.bincount(values, minlength=len(task.labels)).tolist()


def _account(pending: PendingExamples) -> dict[str, Any]:
    """The account of each source, for ``report.json``."""
    name = pending.task.name
    if not pending.counts["dev"]:
        pending.audits["train"].notes.append(
            f"Task {name} has no dev examples: it is trained and not validated."
        )
    overlapping = pending.audits["train"].dropped.get(HELD_OUT)
    if overlapping is not None:
        pending.audits["train"].notes.append(
            f"Task {name}: {overlapping.count:,} training records hold a text of a held-out "
            "example of this or another task, and are left out."
        )
    accounts = {}
    for split, audit in pending.audits.items():
        counts = {s: n for s, n in pending.counts.items() if pending.source(s) == split}
        accounts[audit.name] = audit.as_dict() | {"examples": counts}
    return accounts


def _no_examples_message(pending: PendingExamples) -> str:
    audit = pending.audits["train"]
    why = in_brackets(list_reasons(audit.dropped, places=True))
    where = pending.records["train"].name
    held_out = f" {pending.counts['dev']:,} examples are held out." if pending.counts["dev"] else ""
    return (
        f"Task {pending.task.name} has no training example: of {audit.rows:,} records in {where} "
        f"none can be used{why}.{held_out} Correct its records, or take the task out of the list."
    )


def _describe(pending: PendingExamples) -> dict[str, Any]:
    """The entry of a task in ``tasks.json``."""
    task = pending.task
    return {
        "name": task.name,
        "type": task.type,
        "format": task.format,
        "query_format": task.query_format,
        "fields": list(task.fields),
        "multi_label": task.multi_label,
        "contrastive": task.contrastive,
        "labels": list(task.labels),
        "examples": dict(pending.counts),
        "examples_by_class": dict(pending.by_class),
    }
