"""Reads the records of a task once: checks them, and writes those that may be drawn by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.exclusions import EXCLUDED, Exclusions
from sciembed_train.corpus.prepare_settings import CorpusSettings
from sciembed_train.corpus.tasks.task_records import Record, RecordReader, Text
from sciembed_train.corpus.tasks.task_sample import RecordFile, Sampler, record_key
from sciembed_train.corpus.tasks.task_sources import Records
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, Task, TaskSplit
from sciembed_train.progress import Progress, Stage

ENOUGH = 1000  # malformed records beyond those allowed after which no more are read
WITHOUT_TEXT = "candidates that are in no triplet: without a text, given twice, or the query"


@dataclass
class PendingExamples:
    """A task whose records have been read, before its examples are written."""

    task: Task
    file: RecordFile
    samplers: dict[TaskSplit, Sampler]
    audits: dict[TaskSplit, Audit]  # of each source
    records: Mapping[TaskSplit, Records]
    counts: dict[TaskSplit, int] = field(default_factory=dict)
    by_class: dict[TaskSplit, list[int]] = field(default_factory=dict)

    def source(self, split: TaskSplit) -> TaskSplit:
        """The source of a split's examples; those of dev may be a share of train's."""
        return split if split in self.audits else "train"


class TaskReader:
    """Reads the records of one task, of each split, into a file."""

    def __init__(
        self,
        task: Task,
        records: Mapping[TaskSplit, Records],
        settings: CorpusSettings,
        exclusions: Exclusions | None = None,
    ) -> None:
        self.exclusions = exclusions or Exclusions()
        self.task, self.records, self.settings = task, records, settings
        self.reader = RecordReader(task, settings.task_building)
        share = "dev" not in records and task.sample_size["dev"] != 0
        self.dev_share = settings.dev_share if share else 0.0

    def read(self, to: Path, progress: Progress) -> PendingExamples:
        """Check every record, and write those that may be drawn to a file.

        Raises:
            UserError: a source cannot be read, or has more malformed records than allowed.
        """
        task = self.task
        stratified = task.type == "classification"
        samplers: dict[TaskSplit, Sampler] = {
            split: Sampler(task.sample_size[split], stratified) for split in TASK_SPLITS
        }
        pending = PendingExamples(task, RecordFile(to), samplers, {}, self.records)
        with pending.file:
            for split in self.records:
                name = f"task {task.name}" + (", dev" if split == "dev" else "")
                pending.audits[split] = audit = Audit(name, self.settings.max_bad_rows)
                with progress.stage(name, unit="records") as stage:
                    self._read_source(split, pending, audit, stage)
                audit.check()
        return pending

    def _read_source(
        self, split: TaskSplit, pending: PendingExamples, audit: Audit, stage: Stage
    ) -> None:
        records = self.records[split]
        for place, row in records.rows():
            audit.rows += 1
            if audit.rows % 1024 == 0:
                stage.reach(audit.rows)
            key = record_key(self.settings.seed, self.task.name, split, audit.rows)
            try:
                if isinstance(row, BadRow):
                    raise row
                draws = partial(np.random.default_rng, (self.settings.seed, key))
                record = self.reader.read(row, draws)
            except BadRow as bad:
                audit.bad(bad, f"{records.where(place)} (task {self.task.name})")
                if audit.n_bad >= self.settings.max_bad_rows + ENOUGH:
                    audit.check()
                continue
            if not isinstance(record, Record):
                audit.drop(str(record), records.where(place))
                continue
            left = self._without_excluded(record)
            if left is None:
                audit.drop(EXCLUDED, records.where(place))
                continue
            record = left
            audit.kept += 1
            if record.unused:
                audit.drop(WITHOUT_TEXT, records.where(place), record.unused)
            target: TaskSplit = "dev" if self._held_out(record) else split
            if pending.samplers[target].offer(key, record):
                pending.file.add(TASK_SPLITS.index(target), key, record, place)
        stage.reach(audit.rows)

    def _without_excluded(self, record: Record) -> Record | None:
        """The record without triplets of excluded texts; None where nothing is left.

        The first field of a text is its title, where it has one.
        """
        if not self.exclusions:
            return record
        excluded = {
            number
            for number, text in enumerate(record.texts)
            if self.exclusions.excludes(None, text[0])
        }
        self.exclusions.task_texts += len(excluded)
        if not excluded:
            return record
        pairs = tuple(pair for pair in record.pairs if excluded.isdisjoint(pair))
        if 0 in excluded or not pairs:
            return None
        text_numbers = sorted({0, *(number for pair in pairs for number in pair)})
        place = {number: at for at, number in enumerate(text_numbers)}
        return replace(
            record,
            texts=tuple(record.texts[number] for number in text_numbers),
            pairs=tuple((place[a], place[b]) for a, b in pairs),
        )

    def _held_out(self, record: Record) -> bool:
        """Whether a record's text, or its query, is among the share that is held out."""
        if not self.dev_share:
            return False
        text = f"{self.settings.seed} ".encode() + digest(record.texts[0])
        share = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
        return share < self.dev_share


def digest(text: Text) -> bytes:
    """Sixteen bytes that differ where the fields of two texts do."""
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=16).digest()
