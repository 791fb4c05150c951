"""What every method shares: the optimiser step, its cuts, validation, and the checkpoint.

A method is a constructor and a loss. Shapes: ``B`` examples, ``D`` width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from sciembed_train import distributed
from sciembed_train import optim as optimiser
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import CHECKPOINT_VERSION, describe
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.encoder.profiling.flops import bf16_peak
from sciembed_train.errors import UserError
from sciembed_train.methods.engine import sharding
from sciembed_train.methods.engine.micro_batch_size import MicroBatchSize, choose_micro_batch_size
from sciembed_train.methods.engine.throughput import (
    Meter,
    bf16_share,
    peak_memory_gb,
    useful_token_share,
)
from sciembed_train.optim_settings import OptimSettings, learning_rate

# Most tokens of a backward pass: as many as fit, a number, or no limit.
MaxTokensPerBackward = int | Literal["auto"] | None


@dataclass(frozen=True)
class Loss:
    """A method's answer for some examples.

    Args:
        value: mean over the examples, with gradient.
        parts: more means over the examples, without gradient, by the names they are logged under.
    """

    value: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]


@runtime_checkable
class HeldOut(Protocol):
    """What validation keeps of the held-out texts, and the scores it makes of them."""

    def clear(self) -> None:
        """Forget the last validation."""
        ...

    def add(self, encoder: Encoder, batch: Any) -> None:
        """Encode a batch of held-out texts."""
        ...

    def scores(self, dev: Any, device: torch.device) -> dict[str, float]:
        """The scores by name without ``val/``, the same on every rank; none where nothing came.

        Every rank calls it, also one that has encoded nothing: it gathers.
        """
        ...


class Method(LightningModule):
    """An encoder that is trained; a subclass says by which loss.

    Lightning's automatic step is off: one item of the loader is a whole optimiser step of this
    rank, which may take several backward passes. Each rank takes the mean over its own rows and
    DDP the mean over ranks, so that any number of ranks makes the same step; no factor of the
    world size stands anywhere.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        max_tokens_per_backward: most tokens of distinct texts in one backward pass; a rank's share
            that has more is cut by whole examples. A setting of the machine's memory: the gradient
            is the same. ``auto`` for as many as fit (`methods.engine.micro_batch_size`), null for
            no cut.
        masked_lm: whether the backbone's masked-language-modelling head is trained too.
    """

    # What validation can report, as a recipe may name it to choose the best checkpoint by.
    validation_scores: ClassVar[tuple[str, ...]] = ("val/loss",)
    # What an encoder trained so is compared by.
    similarity: ClassVar[Literal["euclidean", "cosine"]] = "euclidean"
    # Whether it trains vectors of sentences (pooling ``sentences``) in place of one of a text.
    multi_vector: ClassVar[bool] = False

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        masked_lm: bool = False,
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
        self.encoder.format_reader.check_trained()
        self.optim, self.max_tokens_per_backward = optim, max_tokens_per_backward
        self.dry_run_largest = True  # whether a run begins with the step that takes most memory
        self.micro_batch_size = MicroBatchSize(
            None if max_tokens_per_backward == "auto" else max_tokens_per_backward
        )
        self._previous_max_tokens: int | None = (
            None  # where the run that is continued cut its steps
        )
        self.training_metadata: dict[str, Any] = {}  # for the checkpoint: seed, counts, recipe
        self.progress_values: dict[str, float] = {}  # for the progress bar
        self.stop_signal = 0  # set by a signal on this rank
        self.stop_agreed = 0  # the same, known to every rank after a step
        self._grad_norm: Tensor | None = None
        self._meter = Meter()
        self._weights = ExitStack()  # while validation holds them whole

    # What a method defines.

    @property
    def held_out(self) -> HeldOut:
        """What validation keeps and reports; the same object at every call."""
        raise NotImplementedError

    @property
    def reported_scores(self) -> tuple[str, ...]:
        """Those of ``validation_scores`` that validation reports with these settings."""
        return self.validation_scores

    @property
    def similarity_metadata(self) -> dict[str, Any]:
        """What a checkpoint and an export say of how the vectors are compared."""
        return {"similarity": self.similarity}

    @property
    def lr_factors(self) -> Mapping[nn.Parameter, float]:
        """Parameters that are never decayed, and what multiplies the schedule's rate for each."""
        return dict.fromkeys(self.encoder.pooling.parameters(), 1.0)

    def prepare(self, dev: Any) -> None:
        """Make what depends on the examples, such as a layer for each task; mostly nothing.

        Called once, before a checkpoint's weights are loaded and the optimiser is built.

        Args:
            dev: what there is to know of the examples, as `Examples.dev`.

        Raises:
            UserError: the examples are not of the kind this method trains on.
        """

    def check(self, batch: Any) -> None:
        """See that the batches are of the kind this method trains on.

        Raises:
            UserError: they are not; the recipe's ``data.sampling`` is another method's.
        """

    def loss(self, batch: Any) -> Loss:
        """The loss of some examples of this rank, mean over them."""
        raise NotImplementedError

    def negatives_per_anchor(self, batch: Any) -> float:
        """How many texts an anchor of the batch is to be farther from than from its positive.

        The mean over this rank's anchors; of all ranks' texts where they are compared. 1 unless a
        method says otherwise.
        """
        return 1.0

    def split(self, batch: Any, tokens: int | None) -> list[Any]:
        """The batch in micro-batches of whole examples with at most ``tokens`` tokens each.

        Args:
            batch: on the host, as are its micro-batches.
            tokens: of a micro-batch's texts; None for no cut.
        """
        raise NotImplementedError

    # The step.

    def configure_model(self) -> None:
        """Share the weights out among the ranks, where the strategy is to do so."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            assert self.device_mesh is not None
            sharding.shard(self.encoder, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its learning rate is set before each step."""
        scaled = str(self.trainer.precision) == "16-mixed"
        return optimiser.build(self.parameters(), self.optim, not scaled, self.lr_factors)

    def on_train_start(self) -> None:
        """Train with the settings given now, also where a checkpoint has brought its own."""
        optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        optimiser.set_again(cast(torch.optim.AdamW, optimizer), self.optim)
        self._fit()

    def _fit(self) -> None:
        """See how large a micro-batch may be, where the trainer has data to tell it by."""
        trainer: Any = self.trainer
        share = getattr(getattr(trainer, "datamodule", None), "share", None)
        # One whole model a process: a sharded one takes part of its memory in each layer's turn.
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        if share is None or not whole or self.max_tokens_per_backward is None:
            return
        bf16_peak(self.encoder.device)  # takes memory once, which may be short later
        batch = share(self.global_step)
        length = self.encoder.settings.max_length
        with trainer.precision_plugin.train_step_context():
            processes_on_machine = trainer.num_devices
            given = (
                self,
                batch,
                length,
                processes_on_machine,
                self.dry_run_largest,
                self._previous_max_tokens,
            )
            self.micro_batch_size = choose_micro_batch_size(*given)

    @property
    def optimizer_ready(self) -> bool:
        """Whether the optimiser has made its state, which it does at its first step."""
        return bool(cast(LightningOptimizer, self.optimizers()).optimizer.state)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One optimiser step.

        With fp16 a step whose gradient overflows changes no weight but counts as made: every
        rank sees the same averaged gradient, so all skip alike, and data, schedule and step
        count stay together. Its ``train/grad_norm`` is inf or nan.

        Raises:
            RuntimeError: the batch is of another step than the optimiser (a defect).
        """
        step = self.global_step
        if batch.step != step:
            raise RuntimeError(f"the loader gave step {batch.step}, the optimiser is at {step}")
        self._meter.start(self._waited())
        self.seed_dropout(step)
        optimizer = cast(LightningOptimizer, self.optimizers())
        rate = learning_rate(self.optim, step, self.trainer.max_steps)
        optimiser.set_rate(cast(torch.optim.AdamW, optimizer.optimizer), self.optim, rate, step)
        optimizer.zero_grad()
        batch, micro_batches = self.split_micro_batches(batch, self.micro_batch_size.tokens)
        value = self.gradients(batch, micro_batches)
        optimizer.step()
        self._after_step(step, rate, batch, micro_batches, value)

    def split_micro_batches(self, batch: Any, tokens: int | None) -> tuple[Any, list[Any]]:
        """A batch of the host and its micro-batches of at most so many tokens, on the device.

        Cut on the host, which knows the lengths: nobody waits for the device.
        """
        micro_batches = [
            micro_batch.to_device(self.device) for micro_batch in self.split(batch, tokens)
        ]
        return micro_batches[0] if len(micro_batches) == 1 else batch.to_device(
            self.device
        ), micro_batches

    def gradients(self, batch: Any, micro_batches: list[Any]) -> dict[str, Tensor]:
        """Gradients of the step, for a loss that is a mean over examples, micro-batch after
        micro-batch.

        Returns:
            ``loss`` and its parts, each summed over the batch's examples.
        """
        value: dict[str, Tensor] = {}
        self.dummy_forwards(self.forward_count(len(micro_batches)) - len(micro_batches), batch)
        for number, micro_batch in enumerate(micro_batches, start=1):
            with self.syncing_gradients(number == len(micro_batches)):
                loss = self.loss(micro_batch)
                self.manual_backward(loss.value * (len(micro_batch) / len(batch)))
            for name, part in {"loss": loss.value, **loss.parts}.items():
                value[name] = value.get(name, 0) + part.detach() * len(micro_batch)
        return value

    def seed_dropout(self, step: int, micro_batch: int = 0) -> None:
        """Make dropout a function of (seed, step, rank, micro-batch) and of nothing else."""
        torch.manual_seed(_dropout_seed(self.training_metadata.get("seed", 0), step, micro_batch))

    def forward_count(self, micro_batches: int) -> int:
        """How often every rank is to run the encoder, where this one has so many micro-batches.

        Only ranks that share the weights out need to run it equally often.
        """
        return (
            micro_batches
            if self.encoder.max_forwards_over_ranks is None
            else self.encoder.max_forwards_over_ranks(micro_batches)
        )

    def dummy_forwards(self, times: int, batch: Any) -> None:
        """Run the encoder where other ranks have more micro-batches; no gradient changes by it."""
        for _ in range(times):
            nothing = sharding.dummy_forward(self.encoder, batch.rows)
            if torch.is_grad_enabled():
                self.manual_backward(nothing)

    def syncing_gradients(self, yes: bool) -> AbstractContextManager[None]:
        """Whether a backward pass exchanges gradients among ranks; the step's last one does."""
        return nullcontext() if yes else self.without_gradient_sync()

    def without_gradient_sync(self) -> AbstractContextManager[None]:
        """Gradients add up on each rank alone; the last micro-batch's backward pass exchanges
        them."""
        block: Callable[[], AbstractContextManager[None]] | None = getattr(
            self.trainer.strategy, "block_backward_sync", None
        )
        return block() if block else nullcontext()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of all parameters, after fp16's scale has been taken out."""
        limit = self.optim.clip_norm or float("inf")
        trained = [p for p in self.parameters() if p.grad is not None]
        self._grad_norm = torch.nn.utils.clip_grad_norm_(trained, limit)

    def _after_step(
        self,
        step: int,
        rate: float,
        batch: Any,
        micro_batches: list[Any],
        value: Mapping[str, Tensor],
    ) -> None:
        every: int = cast(Any, self.trainer).log_every_n_steps
        due = (step + 1) % every == 0 or step + 1 in (1, self.trainer.max_steps)
        alone = distributed.world_size() == 1
        self._meter.tokens += batch.rows.tokens
        stop = self.stop_signal  # read once: a signal may come at any time
        if alone and not due:  # nothing to agree on, nothing to show: the device is not waited for
            self.stop_agreed = stop
            return
        means = torch.stack(list(value.values()))
        here = torch.tensor(
            [len(batch), self._meter.tokens, stop], dtype=widest_float(means), device=means.device
        )
        sums = distributed.sum_over_ranks(torch.cat([means.to(here.dtype), here]))
        *values, examples, tokens, signals = sums.tolist()
        # Ranks that were sent different signals still all stop; which code they leave with is
        # then the first rank's.
        self.stop_agreed = stop or (2 if signals == 2 else 15 if signals else 0)
        if not due:
            return
        seconds, share = self._meter.stop(self._waited())
        assert self._grad_norm is not None
        found = {
            **{f"train/{n}": v / examples for n, v in zip(value, values, strict=True)},
            "train/lr": rate,
            "train/grad_norm": distributed.full_tensor(self._grad_norm).item(),
            "train/tokens_per_second": tokens / seconds,
            "train/data_time_share": share,
            "train/peak_memory_gb": peak_memory_gb(self.device),
            "train/useful_token_share": useful_token_share(self.encoder, micro_batches),
            "train/negatives": self.negatives_per_anchor(batch),
        }
        speed = found["train/tokens_per_second"]
        self.progress_values = {"loss": found["train/loss"], "tokens/s": speed}
        used = bf16_share(self.encoder, batch, speed / distributed.world_size())
        if used is not None:
            found["train/bf16_peak_share"] = self.progress_values["bf16 peak"] = used
        self.progress_values |= {"data": share, "GB": found["train/peak_memory_gb"]}
        for logger in self.loggers:
            logger.log_metrics(found, step=step + 1)

    def _waited(self) -> float:
        return getattr(getattr(self.trainer, "datamodule", None), "waited", 0.0)

    # Validation.

    def on_validation_epoch_start(self) -> None:
        """Forget what the last validation kept."""
        self._meter.pause()
        self.held_out.clear()
        # Ranks have unlike numbers of held-out texts.
        self._weights.enter_context(sharding.whole(self.encoder))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Encode some held-out texts; a rank that has none is given None."""
        if batch is not None:
            self.held_out.add(self.encoder, batch.to_device(self.device))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the held-out texts; every rank computes the same numbers."""
        dev: Any = getattr(getattr(self.trainer, "datamodule", None), "dev", None)
        if dev is not None and len(dev):
            scores = self.held_out.scores(dev, self.device)
            # Every rank has the same vectors; the mean makes them agree to the last bit, so that
            # all of them stop early or save alike.
            like = torch.zeros((), device=self.device)
            mine = torch.tensor(list(scores.values()), dtype=widest_float(like), device=self.device)
            agreed = distributed.mean_over_ranks(mine)
            for name, score in zip(scores, agreed, strict=True):
                self.log(f"val/{name}", score.float(), logger=False, sync_dist=True)
            found = {f"val/{n}": s for n, s in zip(scores, agreed.tolist(), strict=True)}
            if not self.trainer.sanity_checking:
                for logger in self.loggers:
                    logger.log_metrics(found, step=self.global_step)
        self._weights.close()
        self.held_out.clear()
        self._meter.resume()

    # The checkpoint.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what export needs: settings, the backbone's config and the tokenizer's files."""
        checkpoint["hyper_parameters"] = self.settings()
        checkpoint["cut_at"] = self.micro_batch_size.tokens if self.micro_batch_size.cuts else None
        facts, steps = self.training_metadata, self.global_step
        if facts.get("steps_per_epoch"):
            facts = {**facts, "epochs": round(steps / facts["steps_per_epoch"], 2)}
        checkpoint["sciembed"] = {
            "version": CHECKPOINT_VERSION,
            "method": type(self).__name__.lower(),
            **self.similarity_metadata,
            **describe(self.encoder),
            **{key: facts[key] for key in ("base_model", "texts") if key in facts},
            "training": {**facts, "steps": steps},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Cut on as the run did: dropout is drawn micro-batch by micro-batch."""
        self._previous_max_tokens = checkpoint.get("cut_at")  # older checkpoints do not say

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {
            "encoder": asdict(self.encoder.settings),
            "optim": asdict(self.optim),
            "max_tokens_per_backward": self.max_tokens_per_backward,
        }


def full_precision(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The vectors in at least fp32, whatever the encoder ran in: losses are computed there."""
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


def gather_columns(columns: Sequence[list[Tensor]], device: torch.device) -> list[Tensor]:
    """Each column's rows of all ranks, rank after rank; a rank may have no row, not even a shape.

    Args:
        columns: batches of rows ``[B, D]`` of this rank, of one width and type.
        device: where a rank without rows makes its empty ones.
    """
    mine = next((batch for column in columns for batch in column), None)
    shape = [mine.shape[1], mine.element_size()] if mine is not None else [0, 0]
    known = distributed.gather_ragged(torch.tensor([shape], device=device)).amax(0).tolist()
    kind = torch.float64 if known[1] == 8 else torch.float32
    none = torch.zeros((0, known[0]), dtype=kind, device=device)
    return [distributed.gather_ragged(torch.cat([none, *column])) for column in columns]


def widest_float(like: Tensor) -> torch.dtype:
    """The widest floating type of the tensor's device: Apple's GPUs have no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _dropout_seed(seed: int, step: int, micro_batch: int) -> int:
    # The first micro-batch's is the step's own.
    text = f"{seed} {step} {distributed.rank()}{f' {micro_batch}' if micro_batch else ''}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1
