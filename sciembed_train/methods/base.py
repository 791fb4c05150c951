"""The Lightning module of every method: an encoder, a loss, and the optimiser step.

A method is a constructor, a loss and its validation scores. What a run keeps beside these (signals,
throughput, checkpoints) belongs to the callbacks in `training.callbacks`.

Shapes: ``B`` examples, ``D`` width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.optim import AdamW

from sciembed_train import optim as optimiser
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.model_inputs import check_model_inputs
from sciembed_train.encoder.layers import layers_by_depth
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.methods.engine import sharding
from sciembed_train.methods.engine.backward_passes import BackwardPasses
from sciembed_train.methods.engine.finite_steps import FiniteSteps
from sciembed_train.methods.heldout.heldout_vectors import HeldOut
from sciembed_train.methods.loss import Loss
from sciembed_train.methods.nested import NestedLoss
from sciembed_train.optim_settings import OptimSettings, learning_rate

# Most tokens of a backward pass: as many as fit, a number, or no limit.
MaxTokensPerBackward = int | Literal["auto"] | None


@dataclass(frozen=True)
class StepResult:
    """What an optimiser step hands to the callbacks. Tensors are still on the device.

    Args:
        sums: ``loss`` and its parts, each summed over this rank's examples.
        learning_rate: of the step.
        grad_norm: of all parameters over all ranks, before clipping.
        text_lengths: tokens of the texts of each micro-batch, on the host.
    """

    sums: Mapping[str, Tensor]
    learning_rate: float
    grad_norm: Tensor
    text_lengths: tuple[Tensor, ...]


class Method(LightningModule):
    """An encoder that is trained; a subclass defines the loss.

    Lightning's automatic step is off: one item of the loader is a whole optimiser step of this
    rank, which may take several backward passes. Each rank takes the mean over its own rows and
    DDP the mean over ranks, so that any number of ranks makes the same step; no factor of the
    world size stands anywhere.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        max_tokens_per_backward: most tokens of distinct texts in one backward pass; a rank's share
            that has more is split by whole examples. A setting of the machine's memory: the
            gradient is the same. ``auto`` for as many as fit (`methods.engine.micro_batch_size`),
            null for no limit.
        masked_lm: whether the backbone's masked-language-modelling head is trained too.
        matryoshka_dims: widths that the loss is taken at (`methods.nested`), for a method that
            calls ``nested``; none for the full width alone.
        matryoshka_weights: of each; none for 1 each.

    Attributes:
        nested: the loss at ``matryoshka_dims``, of a loss of columns of vectors.
        held_out: what validation keeps and reports; a subclass sets it, before the first step.
    """

    held_out: HeldOut

    # What validation can report, as a recipe may name it to choose the best checkpoint by.
    validation_scores: ClassVar[tuple[str, ...]] = ("val/loss",)
    # That of them which is reported at each of ``matryoshka_dims``, too; None for none.
    nested_score: ClassVar[str | None] = None
    # The batches it trains on, what their examples are called, and a recipe that gives them.
    batch_type: ClassVar[type] = object
    examples: ClassVar[str] = "examples"
    example_recipe: ClassVar[str] = "its recipe"
    # How vectors of an encoder trained with this method are compared.
    similarity: ClassVar[Literal["euclidean", "cosine"]] = "euclidean"
    # Whether it trains vectors of sentences (pooling ``sentences``) in place of one per text.
    multi_vector: ClassVar[bool] = False

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        masked_lm: bool = False,
        matryoshka_dims: Sequence[int] = (),
        matryoshka_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if isinstance(max_tokens_per_backward, int) and max_tokens_per_backward < 1:
            raise ValueError(
                "max_tokens_per_backward must be 1 or more, auto, or null; "
                f"got {max_tokens_per_backward}."
            )
        if gives_sentence_vectors(encoder.pooling) and not self.multi_vector:
            raise UserError(
                f"encoder.pooling is {encoder.pooling}, and {type(self).__name__} trains one "
                "vector of a text; set it to cls, mean or mix."
            )
        self.automatic_optimization = False
        self.encoder = Encoder(encoder, masked_lm=masked_lm)
        check_model_inputs(
            self.encoder.backbone, self.encoder.tokenizer.hf, encoder.backbone or "the backbone"
        )
        self.encoder.format_reader.check_trained()
        self.matryoshka_dims, self.matryoshka_weights = [*matryoshka_dims], [*matryoshka_weights]
        self.nested = NestedLoss(
            self.encoder.dim,
            tuple(matryoshka_dims),
            tuple(matryoshka_weights),
            normalize=encoder.normalize or self.similarity == "cosine",
        )
        if optim.freeze_embeddings:
            self._freeze_embeddings()
        self.optim, self.max_tokens_per_backward = optim, max_tokens_per_backward
        # The limit in effect; a run's callback replaces ``auto`` by what fits.
        self.micro_batch_tokens = (
            None if max_tokens_per_backward == "auto" else max_tokens_per_backward
        )
        self.passes = BackwardPasses(self.encoder)
        self.finite_steps = FiniteSteps()
        self._grad_norm: Tensor | None = None
        self._mean_loss: Tensor | None = None

    # What a method defines.

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """The names of ``validation_scores`` that validation reports with these settings."""
        return self.validation_scores

    @property
    def similarity_metadata(self) -> dict[str, Any]:
        """How the vectors are compared, for checkpoints and exports."""
        # Unit vectors are in the same order by both, and an encoder that was made for cosine
        # keeps it.
        return {"similarity": "cosine" if self.encoder.settings.normalize else self.similarity}

    @property
    def depends_on_processes(self) -> str | None:
        """Why the steps depend on the number of processes; None where they do not.

        Such a run is not continued on another number of them.
        """
        return None

    @property
    def lr_factors(self) -> Mapping[nn.Parameter, float]:
        """Parameters that are never decayed, and what multiplies the schedule's rate for each."""
        return dict.fromkeys(self.encoder.pooling.parameters(), 1.0)

    @property
    def layers(self) -> list[optimiser.Layer]:
        """The parts of the backbone that learn more slowly than the rest, if any are to."""
        decay = self.optim.layer_decay
        if decay == 1:
            return []
        parts = layers_by_depth(self.encoder.backbone)
        return [(part.name, decay**part.depth, part.parameters) for part in parts if part.depth]

    def _freeze_embeddings(self) -> None:
        if self.encoder.settings.control_codes:
            raise UserError(
                "optim.freeze_embeddings would keep the new vectors of the control codes random: "
                "set it, or encoder.control_codes, to false."
            )
        self.encoder.backbone.get_input_embeddings().requires_grad_(False)

    def prepare(self, dev: Any) -> None:
        """Make what depends on the examples, such as a layer for each task; nothing by default.

        Called once, before a checkpoint's weights are loaded and the optimiser is built.

        Raises:
            UserError: the examples are not of the kind this method trains on.
        """

    @property
    def named_teacher(self) -> str | None:
        """The model, or the file of vectors, that it learns from; None without a teacher."""
        return None

    def learn_from(self, vectors: Any) -> None:
        """Take the vectors of ``named_teacher`` (`methods.distillation.TeacherVectors`).

        Called once, after `prepare`, of a method that names a teacher and is to be trained.
        """
        raise NotImplementedError(f"{type(self).__name__} names a teacher and learns from none")

    def match(self, state: Mapping[str, Tensor]) -> None:
        """Make layers of a checkpoint that only training needs; nothing by default."""

    @property
    def training_record(self) -> dict[str, Any]:
        """What a model card says of the training beside the data and the settings of the step."""
        return {}

    def check(self, batch: Any) -> None:
        """Raise UserError unless the first step's batch is of the kind this method trains on."""
        if not isinstance(batch, self.batch_type):
            raise UserError(
                f"{type(self).__name__} trains on {self.examples}, but data.sampling gives "
                f"{type(batch).__name__}. Give data.sampling as {self.example_recipe} does."
            )

    def loss(self, batch: Any) -> Loss:
        """The loss of a micro-batch of this rank, mean over its examples.

        A method that compares examples with others of the step overrides `gradients` instead, and
        uses a `GradientCache`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither `loss` nor `gradients`")

    def negatives_per_anchor(self, batch: Any) -> float:
        """How many negatives an anchor of the batch is compared with, mean over this rank's.

        The negatives of all ranks count where they are compared. 1 unless a method says otherwise.
        """
        return 1.0

    def collapsed_loss(self, batch: Any) -> float | None:
        """The loss of a batch whose texts all have the same vector; None where that is not known.

        A run whose loss stays there has collapsed, and says so.
        """
        return None

    def split(self, batch: Any, tokens: int | None) -> list[Any]:
        """The batch in micro-batches of whole examples with at most ``tokens`` tokens each.

        Args:
            batch: an `ExampleBatch` on the host, as are its micro-batches.
            tokens: of a micro-batch's texts; None for no limit.
        """
        return batch.split(tokens)

    # The step.

    def configure_model(self) -> None:
        """Shard the weights among the ranks, if the strategy is to do so."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            assert self.device_mesh is not None
            sharding.shard(self.encoder, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its learning rate is set before each step."""
        scaled = str(self.trainer.precision) == "16-mixed"
        return optimiser.build(
            self.parameters(), self.optim, not scaled, self.lr_factors, self.layers
        )

    def on_fit_start(self) -> None:
        """Make backward passes through Lightning, which scales and exchanges gradients."""
        self.passes.backward, self.passes.no_sync = self.manual_backward, self._no_sync

    def on_train_start(self) -> None:
        """Use the run's optimiser settings, even if a checkpoint brought others."""
        optimiser.set_again(self._adamw, self.optim)

    @property
    def _adamw(self) -> AdamW:
        return cast(AdamW, cast(LightningOptimizer, self.optimizers()).optimizer)

    @property
    def optimizer_ready(self) -> bool:
        """Whether the optimiser has made its state, which it does at its first step."""
        return bool(self._adamw.state)

    def _no_sync(self) -> AbstractContextManager[None]:
        strategy = self.trainer.strategy
        parallel = isinstance(strategy, ParallelStrategy)
        return strategy.block_backward_sync() if parallel else nullcontext()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One optimiser step.

        With fp16 a step whose gradient overflows changes no weight but counts as made: every
        rank sees the same averaged gradient, so all skip together, and data, schedule and step
        count stay in line. Its ``train/grad_norm`` is inf or nan. So does, in any precision, a step
        whose loss or gradient is not finite (`FiniteSteps`); a run's callback reads of it.

        Returns:
            ``result``: a `StepResult`, for callbacks' ``on_train_batch_end``.

        Raises:
            RuntimeError: the batch is of another step than the optimiser (a defect).
        """
        step = self.global_step
        if batch.step != step:
            raise RuntimeError(f"the loader gave step {batch.step}, the optimiser is at {step}")
        self.passes.seed_dropout(step)
        optimizer = cast(LightningOptimizer, self.optimizers())
        rate = learning_rate(self.optim, step, self.trainer.max_steps)
        optimiser.set_rate(self._adamw, self.optim, rate, step)
        optimizer.zero_grad()
        batch, micro_batches = self.split_micro_batches(batch, self.micro_batch_tokens)
        sums = self.gradients(batch, micro_batches)
        self._mean_loss = sums["loss"] / len(batch)
        optimizer.step()
        assert self._grad_norm is not None
        lengths = tuple(micro_batch.rows.lengths for micro_batch in micro_batches)
        return {"result": StepResult(sums, rate, self._grad_norm, lengths)}

    def split_micro_batches(self, batch: Any, tokens: int | None) -> tuple[Any, list[Any]]:
        """A batch of the host, and its micro-batches of at most so many tokens, on the device.

        Split on the host, which knows the lengths: nobody waits for the device.
        """
        parts = [part.to_device(self.device) for part in self.split(batch, tokens)]
        return parts[0] if len(parts) == 1 else batch.to_device(self.device), parts

    def gradients(self, batch: Any, micro_batches: list[Any]) -> dict[str, Tensor]:
        """Gradients of the step, for a loss that is a mean over examples: they add up.

        Returns:
            ``loss`` and its parts, each summed over the batch's examples.
        """
        sums: dict[str, Tensor] = {}
        missing = self.passes.forward_count(len(micro_batches)) - len(micro_batches)
        self.passes.dummy_forwards(missing, batch.rows)
        for number, micro_batch in enumerate(micro_batches, start=1):
            with self.passes.exchanging(last=number == len(micro_batches)):
                loss = self.loss(micro_batch)
                self.passes.backward(loss.value * (len(micro_batch) / len(batch)))
            for name, part in {"loss": loss.value, **loss.parts}.items():
                sums[name] = sums.get(name, 0) + part.detach() * len(micro_batch)
        return sums

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of all parameters, after fp16's scale has been taken out.

        A step that is not finite is left out: by AdamW itself, which the device tells; with fp16
        by taking its gradients away, since the host waits for the device there anyway.
        """
        limit = self.optim.clip_norm or float("inf")
        trained = [p for p in self.parameters() if p.grad is not None]
        self._grad_norm = torch.nn.utils.clip_grad_norm_(trained, limit)
        if self._mean_loss is None:  # a step that is not `training_step`'s
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        # With a scale of 1 or less an overflow is no longer the scale's.
        overflow = scaler is not None and scaler.get_scale() > 1
        step = self.global_step + 1
        left_out = self.finite_steps.leaves_out(step, self._mean_loss, self._grad_norm, overflow)
        if scaler is None:
            cast(Any, self._adamw).found_inf = left_out
        elif left_out.item():
            self.zero_grad()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Encode held-out texts; a rank that has none gets None."""
        if batch is not None:
            self.held_out.add(self.encoder, batch.to_device(self.device))

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values; each is an attribute of its name."""
        own = {
            name: _plain(getattr(self, name))
            for kind in type(self).__mro__
            if issubclass(kind, Method) and kind is not Method and "__init__" in vars(kind)
            for name, parameter in inspect.signature(kind.__init__).parameters.items()
            if name not in ("self", "encoder") and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }
        return {
            "encoder": asdict(self.encoder.settings),
            "optim": asdict(self.optim),
            "max_tokens_per_backward": self.max_tokens_per_backward,
            **own,
        }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else value
