"""The tasks of a corpus folder: examples as numbers of texts, each text once.

``task_texts.parquet`` holds the texts of all tasks, those of held-out examples first.
``tasks/<name>/<split>.npy`` holds a task's examples: int32 ``[N, 3]`` (query, positive, negative)
or ``[N]`` (the text of each label). Beside it lie the labels: ``<split>.label.npy``, int32 ``[N]``
(the number of the class) or float32 ``[N]`` (what a regression tells), or ``<split>.labels.npy``,
uint8 ``[N, C]`` (whether the text is of each class). ``tasks.json`` says what the tasks are.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import Dropped
from sciembed_train.corpus.tasks.task_examples import PendingExamples, TaskReader, digest
from sciembed_train.corpus.tasks.task_records import Text
from sciembed_train.corpus.tasks.task_sources import Records
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, Task, TaskBuilding, TaskSplit
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress

ROWS = 4096  # of one row group
HELD_OUT = "a text of it is in a held-out example"
NOT_DRAWN = "not drawn: there are more than sample_size"


class TaskTexts:
    """Numbers the distinct texts of tasks, and writes them as they come."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.schema = pa.schema([("text", pa.int32()), ("fields", pa.list_(pa.string()))])
        self.file = pq.ParquetWriter(path, self.schema, compression="zstd", use_dictionary=False)
        self.numbers: dict[bytes, int] = {}
        self.waiting: list[Text] = []
        self.written = 0

    def __enter__(self) -> TaskTexts:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self.file.close()

    def __len__(self) -> int:
        return len(self.numbers)

    def known(self, key: bytes) -> int | None:
        """The number of the text of a `digest`, if it has one."""
        return self.numbers.get(key)

    def add(self, key: bytes, text: Text) -> int:
        """The number of a text, a new one where it is new."""
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.numbers)
            self.waiting.append(text)
            if len(self.waiting) >= ROWS:
                self._flush()
        return number

    def _flush(self) -> None:
        import pyarrow as pa

        last = self.written + len(self.waiting)
        columns = [np.arange(self.written, last, dtype=np.int32), self.waiting]
        arrays = [pa.array(c, t) for c, t in zip(columns, self.schema.types, strict=True)]
        self.file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self.written, self.waiting = last, []


def build_tasks(
    folder: Path,
    work: Path,
    tasks: Sequence[Task],
    sources: Sequence[Mapping[TaskSplit, Records]],
    building: TaskBuilding,
    dev_share: float,
    seed: int,
    max_bad_rows: int,
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Read every task and write its examples; counts for ``corpus.json``.

    Args:
        folder: the corpus that is being written.
        work: a folder for what is written on the way.
        tasks: what to read.
        sources: where the records of each task lie.
        building: how records become examples.
        dev_share: share of the texts, or queries, of a task without records of dev that is held
            out; the same texts in every task.
        seed: of the share and of every draw.
        max_bad_rows: malformed records of a source that are skipped before the program refuses.
        report: takes the account of every source.
        progress: is told how far it is.

    Raises:
        UserError: a source cannot be read, more records are malformed than allowed, or a task has
            no training example.
    """
    drafts = []
    for number, (task, records) in enumerate(zip(tasks, sources, strict=True)):
        reader = TaskReader(task, records, building, dev_share, seed, max_bad_rows)
        drafts.append(reader.read(work / f"{number}.spool", progress))
    with TaskTexts(folder / "task_texts.parquet") as texts:
        # Held-out texts have the first numbers: so a training example is known to hold one.
        with progress.stage("task examples") as stage:
            border = 0
            for split in ("dev", "train"):
                for draft in drafts:
                    _write(folder / "tasks" / draft.task.name, draft, split, texts, border)
                    stage.reach(stage.done + draft.counts[split])
                border = 0 if building.dev_in_train else len(texts)
        n_texts = len(texts)
    for draft in drafts:
        draft.spool.path.unlink()
        report |= _account(draft)
        if not draft.counts["train"]:
            raise UserError(_why_nothing(draft))
    told = json.dumps([_described(draft) for draft in drafts], indent=1, ensure_ascii=False)
    (folder / "tasks.json").write_text(told + "\n", encoding="utf-8")
    counts = {draft.task.name: dict(draft.counts) for draft in drafts}
    return {"task_texts": n_texts, "tasks": counts}


def _write(
    to: Path, draft: PendingExamples, split: TaskSplit, texts: TaskTexts, border: int
) -> None:
    """Write a split's examples; those with a text whose number is below ``border`` are left out."""
    task, number = draft.task, TASK_SPLITS.index(split)
    source = draft.source(split)
    audit, where = draft.audits[source], draft.records[source].where
    sampler = draft.samplers[split]
    chooser = sampler.chooser(lambda: draft.spool.heads(number))
    rows, labels = array("i"), array("d" if task.type == "regression" else "i")
    flags: list[bytes] = []
    drawn = 0
    for record, place in draft.spool.records(number, chooser):
        drawn += 1
        keys = [digest(text) for text in record.texts]
        if border and any((n := texts.known(key)) is not None and n < border for key in keys):
            audit.drop(HELD_OUT, where(place))
            audit.kept -= 1
            continue
        numbers = [texts.add(key, text) for key, text in zip(keys, record.texts, strict=True)]
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
        audit.dropped.setdefault(NOT_DRAWN, Dropped()).count += sampler.records - drawn
        audit.kept -= sampler.records - drawn
    to.mkdir(parents=True, exist_ok=True)
    examples = np.array(rows, np.int32)
    examples = examples if task.labelled else examples.reshape(-1, 3)
    np.save(to / f"{split}.npy", examples)
    draft.counts[split] = len(examples)
    if task.multi_label:
        classes = np.frombuffer(b"".join(flags), np.uint8).reshape(-1, len(task.labels))
        np.save(to / f"{split}.labels.npy", classes)
        draft.by_class[split] = classes.sum(0, dtype=np.int64).tolist()
    elif task.labelled:
        kind = np.float32 if task.type == "regression" else np.int32
        told = np.array(labels, kind)
        np.save(to / f"{split}.label.npy", told)
        if task.type == "classification":
            draft.by_class[split] = np.bincount(told, minlength=len(task.labels)).tolist()


def _account(draft: PendingExamples) -> dict[str, Any]:
    """What of each source was used, for ``report.json``."""
    name = draft.task.name
    if not draft.counts["dev"]:
        draft.audits["train"].notes.append(
            f"Task {name} has no dev examples: it is trained and not validated."
        )
    lost = draft.audits["train"].dropped.get(HELD_OUT)
    if lost is not None:
        draft.audits["train"].notes.append(
            f"Task {name}: {lost.count:,} training records hold a text of a held-out example of "
            "this or another task, and are left out."
        )
    found = {}
    for split, audit in draft.audits.items():
        counts = {s: n for s, n in draft.counts.items() if draft.source(s) == split}
        found[audit.name] = audit.as_dict() | {"examples": counts}
    return found


def _why_nothing(draft: PendingExamples) -> str:
    audit = draft.audits["train"]
    told = [
        f"{d.count:,}: {reason}" + (f", the first at {d.examples[0]}" if d.examples else "")
        for reason, d in audit.dropped.items()
    ]
    why = f" ({'; '.join(told)})" if told else ""
    where = draft.records["train"].name
    held_out = f" {draft.counts['dev']:,} examples are held out." if draft.counts["dev"] else ""
    return (
        f"Task {draft.task.name} has no training example: of {audit.rows:,} records in {where} "
        f"none can be used{why}.{held_out} Correct its records, or take the task out of the list."
    )


def _described(draft: PendingExamples) -> dict[str, Any]:
    """What a task is, for ``tasks.json``."""
    task = draft.task
    return {
        "name": task.name,
        "type": task.type,
        "format": task.format,
        "query_format": task.query_format,
        "fields": list(task.fields),
        "multi_label": task.multi_label,
        "contrastive": task.contrastive,
        "labels": list(task.labels),
        "examples": dict(draft.counts),
        "examples_by_class": dict(draft.by_class),
    }
