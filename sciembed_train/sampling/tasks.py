"""Examples of several tasks in one step, each text under the format that reads it.

SciRepEval, Singh et al. (2023), section 4: labelled texts and triplets together, a loss for each
task. `task_plan` decides how many examples of each task a step has.

Shapes: ``B`` examples of a task in a share of a step, ``U`` texts, ``C`` classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    TaskBatch,
    TaskKind,
    TokenRows,
    TripletPart,
)
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TASK_TOKENS
from sciembed_train.corpus.tasks.task_types import TaskInfo, TaskSplit
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    TokenizationSpec,
    fingerprint,
    no_queries,
)
from sciembed_train.sampling.held_out_papers import PaperBatches, choose_dev
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.task_plan import PublishedPlan, TaskPlan
from sciembed_train.text.input_format import FORMATS

DEV_EXAMPLES = 2_000  # of each task, where no other number is asked for
PLAN_VERSION = 1  # of which examples a step has; a change makes another experiment
NUMBERS = {name: number for number, name in enumerate(FORMATS)}

Epoch = Literal["proportional", "capped"]


@dataclass(frozen=True)
class TaskSampling(Sampling):
    """The corpus's tasks, all of them in every step of every rank.

    Args:
        epoch: ``proportional``: a task's part of a step is in proportion to its training examples,
            and an epoch ends when all have been seen; small tasks whose part was raised go round
            again. ``capped``: of a larger task ``cap`` examples count, and an epoch sees so many of
            it, others in each epoch.
        cap: where epochs are capped; null for the size of the smallest task.
        reproduce: take turns over the tasks as published, without shuffling: see `PublishedPlan`.

    Raises:
        UserError: ``cap`` is below 1 or given without capped epochs, or ``reproduce`` is given with
            capped epochs.
    """

    takes: ClassVar[tuple[str, ...]] = ("tasks",)
    needs: ClassVar[tuple[str, ...]] = ("tasks",)

    epoch: Epoch = "proportional"
    cap: int | None = None
    reproduce: bool = False

    def __post_init__(self) -> None:
        if self.cap is not None and (self.cap < 1 or self.epoch != "capped"):
            raise UserError(
                f"data.sampling.cap is {self.cap}; it is 1 or more, and goes with "
                "data.sampling.epoch capped."
            )
        if self.reproduce and self.epoch != "proportional":
            raise UserError(
                "data.sampling.reproduce has epochs of its own: leave data.sampling.epoch out."
            )

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> TaskExamples:
        """The tasks of a corpus whose texts were tokenised for this encoder."""
        return TaskExamples(self, corpus, tokenization, dev_limit or DEV_EXAMPLES)


@dataclass(frozen=True)
class _Chosen:
    """Examples of a task: texts ``[B, 3]`` or ``[B]``, and their labels."""

    task: TaskInfo
    texts: NDArray[np.int64]
    targets: torch.Tensor | None

    @property
    def keys(self) -> NDArray[np.int64]:
        """A number for every text under the format that reads it, of the shape of ``texts``."""
        formats = np.full(self.texts.shape[1:], NUMBERS[self.task.format])
        if not self.task.labelled:
            formats[0] = NUMBERS[self.task.query_format]
        return self.texts * len(FORMATS) + formats


class TaskExamples(Examples):
    """Opened tasks: `Examples` for methods that train several losses at once.

    Attributes:
        tasks: what the tasks are, in the order of the corpus.
    """

    name = "examples"

    def __init__(
        self, sampling: TaskSampling, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int
    ) -> None:
        folder = corpus.tasks()
        key = tokenization.tokenizer.key(tokenization.input_format)
        self.sampling, self.max_length = sampling, tokenization.max_length
        self.tokens = corpus.tokens(key, TASK_TOKENS)
        self.tasks: tuple[TaskInfo, ...] = folder.tasks
        self._texts = [folder.examples(task.name, "train") for task in self.tasks]
        self._labels = [_labels(folder, task, "train") for task in self.tasks]
        self.sizes = tuple(map(len, self._texts))
        self.min_batch_size = len(self.tasks)
        self.train = sum(self.sizes)
        self.range_starts = np.cumsum([0, *self.sizes])
        held_out = [
            _held_out(folder, task, dev_limit) for task in self.tasks if task.examples["dev"]
        ]
        self.dev_texts, self.dev_formats, parts = _assembled(held_out)
        self.dev = DevTasks(tuple(map(_kind, self.tasks)), parts, len(self.dev_texts))
        self.notes = tuple(
            f"Task {task.name} has no dev examples: it is trained and not validated."
            for task in self.tasks
            if not task.examples["dev"]
        )
        tasks = json.dumps([asdict(task) for task in self.tasks])
        facts = [key, str(PLAN_VERSION), json.dumps(asdict(sampling)), tasks]
        rows = np.concatenate([np.ravel(texts) for texts in self._texts])
        self.fingerprint = fingerprint(corpus, facts, rows)

    def plan(
        self, batch_size: int, seed: int, world_size: int = 1, by_query: bool = False
    ) -> TaskPlan | PublishedPlan:
        """Which examples each step has.

        Raises:
            UserError: the ranks cannot share a step, or a task has too few examples for it; or
                examples are to stay together by their query.
        """
        if by_query:
            raise no_queries(self.name)
        names = tuple(task.name for task in self.tasks)
        if self.sampling.reproduce:
            return PublishedPlan(names, self.sizes, batch_size, world_size)
        cap = None
        if self.sampling.epoch == "capped":
            cap = self.sampling.cap or min(self.sizes)
        return TaskPlan(names, self.sizes, batch_size, seed, world_size, cap)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> TaskBatch:
        """A rank's examples, a part for each task; no draw depends on the epoch."""
        mine = np.asarray(indices[share], np.int64)
        task_of = np.searchsorted(self.range_starts, mine, side="right") - 1
        chosen = []
        for number, (task, texts, labels) in enumerate(
            zip(self.tasks, self._texts, self._labels, strict=True)
        ):
            rows = mine[task_of == number] - self.range_starts[number]
            if len(rows):  # every task has some, except in the published order
                targets = None if labels is None else _targets(task, labels[rows])
                chosen.append(_Chosen(task, np.asarray(texts[rows], np.int64), targets))
        texts, formats, parts = _assembled(chosen)
        ids, lengths = self.tokens.rows(texts, self.max_length)
        rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
        return TaskBatch(rows, torch.from_numpy(formats), parts, step)

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's held-out texts, longest first, each once for every format that reads it."""
        return PaperBatches(
            self.tokens,
            self.dev_texts,
            self.max_length,
            rank=rank,
            world_size=world_size,
            formats=self.dev_formats,
        )

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first examples of every task in the first step: their texts and labels."""
        batch = self.batch(plan.indices(0), epoch=0, step=0)
        rows = [ids.tolist() for ids in batch.rows.ids.split(batch.rows.lengths.tolist())]
        formats = [list(FORMATS)[number] for number in batch.formats.tolist()]
        tasks = {task.name: task for task in self.tasks}
        examples = []
        for part in batch.parts:
            task, labels = tasks[part.task], part.label if isinstance(part, LabelPart) else None
            roles = ("anchor", "positive", "negative") if labels is None else ("text",)
            for number, members in enumerate(part.members()[:count].tolist()):
                texts = [
                    TextDescription(role, rows[row], details=(f"read for {formats[row]}",))
                    for role, row in zip(roles, members, strict=True)
                ]
                title = f"task {task.name} ({task.type})"
                if labels is not None:
                    title += f": {_label_name(task, labels[number])}"
                examples.append(ExampleDescription(title, tuple(texts)))
        return examples


def _label_name(task: TaskInfo, label: torch.Tensor) -> str:
    """The classes of a text, or the number that a regression predicts."""
    if task.multi_label:
        classes = [name for name, yes in zip(task.labels, label.tolist(), strict=True) if yes]
        return ", ".join(classes) or "no label"
    return task.labels[int(label)] if task.labels else str(label.item())


def _kind(task: TaskInfo) -> TaskKind:
    """What a method needs to know about a task."""
    if not task.labelled:
        return TaskKind(task.name, "triplet")
    if task.type == "regression":
        return TaskKind(task.name, "number")
    target = "classes" if task.multi_label else "class"
    return TaskKind(task.name, target, len(task.labels), task.contrastive)


def _labels(folder: Any, task: TaskInfo, split: TaskSplit) -> NDArray[Any] | None:
    return folder.labels(task.name, split) if task.labelled else None


def _held_out(folder: Any, task: TaskInfo, limit: int) -> _Chosen:
    """At most ``limit`` held-out examples of a task, always the same; triplets by whole queries."""
    texts = np.asarray(folder.examples(task.name, "dev"), np.int64)
    if not task.labelled:
        return _Chosen(task, choose_dev(texts, limit), None)
    labels = np.asarray(folder.labels(task.name, "dev"))
    if len(texts) > limit:
        kept = np.sort(np.random.default_rng(0).permutation(len(texts))[:limit])
        texts, labels = texts[kept], labels[kept]
    return _Chosen(task, texts, _targets(task, labels))


def _targets(task: TaskInfo, labels: NDArray[Any]) -> torch.Tensor:
    """Labels as losses take them: numbers of classes, or 32-bit numbers."""
    kind = np.int64 if task.type == "classification" and not task.multi_label else np.float32
    return torch.from_numpy(np.array(labels, kind))


def _assembled(
    chosen: Sequence[_Chosen],
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[TripletPart | LabelPart, ...]]:
    """The distinct texts ``[U]``, the format that reads each, and the examples among them."""
    keys = [examples.keys.reshape(-1) for examples in chosen]
    distinct, rows = np.unique(np.concatenate(keys or [np.empty(0, int)]), return_inverse=True)
    ends = np.cumsum([len(flat) for flat in keys])
    parts: list[TripletPart | LabelPart] = []
    for examples, flat, end in zip(chosen, keys, ends, strict=True):
        members = torch.from_numpy(rows.reshape(-1)[end - len(flat) : end])
        name = examples.task.name
        if examples.targets is not None:
            parts.append(LabelPart(name, members, examples.targets))
        else:
            columns = members.reshape(-1, 3).unbind(1)
            parts.append(TripletPart(name, *(column.contiguous() for column in columns)))
    return distinct // len(FORMATS), distinct % len(FORMATS), tuple(parts)
