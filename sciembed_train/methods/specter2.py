"""SPECTER2's adapter stage: tasks of several formats trained together.

Singh, D'Arcy, Cohan, Downey and Feldman (2023), "SciRepEval: A Multi-Format Benchmark for
Scientific Document Representations", section 4.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Literal

from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import DevTasks, TaskBatch, TaskKind, TripletPart
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.engine.gradient_cache import GradientCache
from sciembed_train.methods.heldout.heldout_tasks import SCORES, VALIDATION_SCORES, HeldOutTasks
from sciembed_train.methods.loss import check_margin, check_temperature
from sciembed_train.methods.task_heads import TaskHeads
from sciembed_train.methods.task_losses import Contrastive, TaskLosses, TaskStep
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.text.input_format import FORMATS


class MultiTask(Method):
    """The sum over tasks of the mean loss of a task's examples in the step, over all ranks.

    Of a frozen backbone with adapters only these and the heads are trained (SPECTER2, second
    stage); without adapters all of it (MTL CLS), and with control codes these as well (MTL CTRL).
    The step is the same on any number of ranks and in any number of micro-batches.

    Args:
        encoder: backbone, adapters or control codes, length.
        optim: the optimiser, its schedule and clipping.
        weights: what a task's loss is multiplied by, by the task's name; 1 for the others.
        margin: how much farther the negative of a triplet must be, in the unit of the distance.
        negatives: ``one``: a triplet's own negative, as published. ``all``: the positives and
            negatives of all the step's triplets of the task, less texts that some triplet of the
            step pairs with the same query.
        temperature: of ``all``, for the cross-entropy of ``-distance / temperature``; null for
            the margin.
        contrastive: the loss of classifications that ask for it.
        head_dropout: of the embedding before a head.
        max_tokens_per_backward: most tokens of one backward pass; a share that has more is split
            by whole examples. Those that are compared with others of the step (``all``,
            contrastive) are encoded twice (`methods.engine.gradient_cache`). See `Method`.

    Raises:
        UserError: a setting is out of its range, or serves nothing.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        weights: dict[str, float] | None = None,
        margin: float = 1.0,
        negatives: Literal["one", "all"] = "one",
        temperature: float | None = None,
        contrastive: Contrastive = Contrastive(),  # noqa: B008 - frozen
        head_dropout: float = 0.2,
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
    ) -> None:
        for task, weight in (weights or {}).items():
            if not weight > 0:
                raise UserError(
                    f"weights.{task} is {weight}; it is above 0. A task that is not to be trained "
                    "is left out of the list of tasks."
                )
        check_margin(margin)
        check_temperature(temperature, negatives, compared="all")
        if not 0 <= head_dropout < 1:
            raise UserError(f"head_dropout is {head_dropout}; it is at least 0 and below 1.")
        super().__init__(encoder, optim, max_tokens_per_backward)
        self.weights = dict(weights or {})
        self.margin, self.temperature = margin, temperature
        self.negatives: Literal["one", "all"] = negatives
        self.contrastive, self.head_dropout = contrastive, head_dropout
        self.tasks: tuple[TaskKind, ...] = ()

    def prepare(self, dev: Any) -> None:
        """Make a head for each task that has labels."""
        if not isinstance(dev, DevTasks):
            raise UserError(
                "MultiTask trains on tasks, but data.sampling gives other examples. Give "
                "data.sampling as configs/specter2_adapters.yaml does."
            )
        names = [kind.name for kind in dev.tasks]
        for name in self.weights:
            if name not in names:
                raise UserError(
                    f"weights.{name} names no task of the corpus; its tasks are {', '.join(names)}."
                )
        self.tasks = dev.tasks
        self._validated = {part.task for part in dev.parts if len(part)}
        self.heads = TaskHeads(dev.tasks, self.encoder.dim, self.head_dropout)
        self.held_out = HeldOutTasks(self.heads, self.weights, self.task_losses.triplet)

    @property
    def task_losses(self) -> TaskLosses:
        """The settings of the tasks' losses."""
        return TaskLosses(
            self.weights, self.margin, self.negatives, self.temperature, self.contrastive
        )

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """The scores of every task that has held-out examples."""
        scores = [
            f"val/{kind.name}_{score}"
            for kind in self.tasks
            if kind.name in self._validated
            for score in SCORES[kind.target]
        ]
        return ("val/loss", *scores)

    def check(self, batch: Any) -> None:
        """Raise UserError unless the tasks' formats are those of the adapters."""
        adapters = self.encoder.settings.adapters
        if adapters is None:
            return
        known = list(FORMATS)
        used = {known[number] for number in batch.formats.unique().tolist()}
        for name in sorted(used - set(adapters.formats)):
            raise UserError(
                f"Tasks of the corpus are of format {name}, which has no adapter: add it to "
                f"encoder.adapters.formats ({', '.join(adapters.formats)}), or leave these tasks "
                "out of the list."
            )
        unused = sorted(set(adapters.formats) - used)
        if unused:
            rest = ", ".join(name for name in adapters.formats if name in used)
            raise UserError(
                f"encoder.adapters.formats has {', '.join(unused)}, and no task of the corpus is "
                "of that format, so the adapter would not be trained: leave it out "
                f"(--model.encoder.adapters.formats '[{rest}]')."
            )

    def gradients(self, batch: TaskBatch, micro_batches: list[TaskBatch]) -> dict[str, Tensor]:
        """Gradients of the sum of the tasks' means, each over all ranks."""
        step = TaskStep(
            self.encoder, self.tasks, self.heads, self.task_losses, batch, micro_batches
        )
        step.count_examples()
        in_batch_loss = step.in_batch_loss if step.compared else None
        cache = GradientCache(self.passes, step.encode, in_batch_loss, step.holds_compared)
        sums = cache.gradients(batch, micro_batches)
        logged = {"loss", *(f"{task}_loss" for task in step.own_counts)}
        return {name: value for name, value in sums.items() if name in logged}

    def negatives_per_anchor(self, batch: TaskBatch) -> float:
        """Of a triplet its own negative, or all papers of its task, also those known to be near."""
        sizes = [len(part) for part in batch.parts if isinstance(part, TripletPart)]
        if self.negatives == "one" or not sum(sizes):
            return float(bool(sum(sizes)))
        ranks = distributed.world_size()
        return sum(size * (2 * size * ranks - 1) for size in sizes) / sum(sizes)

    def split(self, batch: TaskBatch, tokens: int | None) -> list[TaskBatch]:
        """The batch in micro-batches of whole examples; tasks that compare examples stay apart."""
        compared = {kind.name for kind in self.tasks if self.task_losses.compares(kind)}
        return batch.split(tokens, apart=compared)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, and the tasks of the heads."""
        return {**super().settings(), "tasks": [asdict(kind) for kind in self.tasks]}
