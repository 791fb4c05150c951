"""The records of a task read once: checked, told apart by split, and put down to be drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.tasks.task_records import Record, RecordReader, Text
from sciembed_train.corpus.tasks.task_sample import Sampler, Spool, record_key
from sciembed_train.corpus.tasks.task_sources import Records
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, Task, TaskBuilding, TaskSplit
from sciembed_train.progress import Progress, Stage

ENOUGH = 1000  # malformed records beyond those allowed after which no more are read
WITHOUT_TEXT = "candidates that are in no triplet: without a text, given twice, or the query"


@dataclass
class PendingExamples:
    """A task whose records have been read and put down, before its examples are written."""

    task: Task
    spool: Spool
    samplers: dict[TaskSplit, Sampler]
    audits: dict[TaskSplit, Audit]  # of each source
    records: Mapping[TaskSplit, Records]
    counts: dict[TaskSplit, int] = field(default_factory=dict)
    by_class: dict[TaskSplit, list[int]] = field(default_factory=dict)

    def source(self, split: TaskSplit) -> TaskSplit:
        """The source that a split's examples come from: dev's may be a share of train's."""
        return split if split in self.audits else "train"


class TaskReader:
    """The records of one task on their way to the spool.

    Args:
        task: what it says of them.
        records: where they lie.
        building: how they become examples.
        dev_share: share of the texts, or queries, that is held out where no records of dev are.
        seed: of the share and of every draw.
        max_bad_rows: malformed records of a source that are skipped before the program refuses.
    """

    def __init__(
        self,
        task: Task,
        records: Mapping[TaskSplit, Records],
        building: TaskBuilding,
        dev_share: float,
        seed: int,
        max_bad_rows: int,
    ) -> None:
        self.task, self.records = task, records
        self.reader = RecordReader(task, building)
        share = "dev" not in records and task.sample_size["dev"] != 0
        self.dev_share = dev_share if share else 0.0
        self.seed, self.max_bad_rows = seed, max_bad_rows

    def read(self, to: Path, progress: Progress) -> PendingExamples:
        """Check every record and put down what may be drawn.

        Args:
            to: the spool's file.
            progress: is told how many records are read.

        Raises:
            UserError: a source cannot be read, or has more malformed records than allowed.
        """
        task = self.task
        stratified = task.type == "classification"
        samplers: dict[TaskSplit, Sampler] = {
            split: Sampler(task.sample_size[split], stratified) for split in TASK_SPLITS
        }
        draft = PendingExamples(task, Spool(to), samplers, {}, self.records)
        with draft.spool:
            for split in self.records:
                name = f"task {task.name}" + (", dev" if split == "dev" else "")
                draft.audits[split] = audit = Audit(name, self.max_bad_rows)
                with progress.stage(name, unit="records") as stage:
                    self._source(split, draft, audit, stage)
                audit.check()
        return draft

    def _source(self, split: TaskSplit, draft: PendingExamples, audit: Audit, stage: Stage) -> None:
        records = self.records[split]
        for place, row in records.rows():
            audit.rows += 1
            if audit.rows % 1024 == 0:
                stage.reach(audit.rows)
            key = record_key(self.seed, self.task.name, split, audit.rows)
            found = row
            if not isinstance(row, BadRow):
                found = self.reader.read(row, _Draws(self.seed, key))
            if isinstance(found, BadRow):
                audit.bad(found, f"{records.where(place)} (task {self.task.name})")
                if audit.n_bad >= self.max_bad_rows + ENOUGH:
                    audit.check()
                continue
            if not isinstance(found, Record):
                audit.drop(str(found), records.where(place))
                continue
            audit.kept += 1
            if found.left_out:
                audit.drop(WITHOUT_TEXT, records.where(place), found.left_out)
            into: TaskSplit = "dev" if self._held_out(found) else split
            if draft.samplers[into].offer(key, found):
                draft.spool.add(TASK_SPLITS.index(into), key, found, place)
        stage.reach(audit.rows)

    def _held_out(self, record: Record) -> bool:
        """Whether a record's text, or its query, is among the share that is held out."""
        if not self.dev_share:
            return False
        text = f"{self.seed} ".encode() + digest(record.texts[0])
        share = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
        return share < self.dev_share


class _Draws:
    """Draws of one record; a generator takes longer to make than most records to read."""

    def __init__(self, seed: int, key: int) -> None:
        self.seed, self.key = seed, key
        self.generator: np.random.Generator | None = None

    def permutation(self, n: int) -> Any:
        """The numbers below ``n`` in a random order."""
        if self.generator is None:
            self.generator = np.random.default_rng((self.seed, self.key))
        return self.generator.permutation(n)


def digest(text: Text) -> bytes:
    """Sixteen bytes that differ where the fields of two texts do."""
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=16).digest()
