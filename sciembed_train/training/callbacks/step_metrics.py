"""The numbers of each step, summed over the ranks and logged."""

from __future__ import annotations

from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train import distributed
from sciembed_train.methods.base import Method, StepResult
from sciembed_train.methods.loss import widest_float
from sciembed_train.training.callbacks.signals import Signals
from sciembed_train.training.callbacks.throughput import (
    Throughput,
    bf16_share,
    peak_memory_gb,
    useful_token_share,
)
from sciembed_train.training.run_folder import MetricsCsv


class StepMetrics(Callback):
    """Loss, gradient norm, speed and memory of a step, logged at an interval.

    One sum over the ranks after each step carries all that they must agree on: the loss and its
    parts, the numbers of examples and tokens, and the signals. A process that trains alone reads
    nothing from the device unless the step is logged.

    Attributes:
        progress: the last logged values that a progress bar shows.
        logged: all that was logged last.
        logged_step: and of which step.
    """

    def __init__(self, every: int, throughput: Throughput, signals: Signals) -> None:
        self.every, self.throughput, self.signals = every, throughput, signals
        self.progress: dict[str, float] = {}
        self.logged: dict[str, float] = {}
        self.logged_step = 0
        self._last: tuple[Any, float] | None = None

    @property
    def loss(self) -> float | None:
        """The loss of the last step, over all ranks; None before the first.

        It is read from the device, which ends its work first.
        """
        if self._last is None:
            return None
        total, examples = self._last
        return float(total) / examples

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring ``metrics.csv`` back to the step of the checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.keep_until(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree on signals, and log the step if it is due."""
        result: StepResult = outputs["result"]
        made = trainer.global_step
        due = made % self.every == 0 or made in (1, trainer.max_steps)
        received = self.signals.received  # read once: a signal may come at any time
        self._last = result.sums["loss"], len(batch)
        if distributed.world_size() == 1 and not due:
            self.signals.agreed = received
            return
        means = torch.stack(list(result.sums.values()))
        own = torch.tensor(
            [len(batch), self.throughput.tokens, received],
            dtype=widest_float(means),
            device=means.device,
        )
        sums = distributed.sum_over_ranks(torch.cat([means.to(own.dtype), own]))
        *values, examples, tokens, signal_sum = sums.tolist()
        self.signals.agree(received, signal_sum)
        self._last = values[[*result.sums].index("loss")], examples
        if due:
            losses = {
                f"train/{name}": value / examples
                for name, value in zip(result.sums, values, strict=True)
            }
            self._log(trainer, cast(Method, pl_module), batch, result, losses, tokens)

    def _log(
        self,
        trainer: Trainer,
        method: Method,
        batch: Any,
        result: StepResult,
        losses: dict[str, float],
        tokens: float,
    ) -> None:
        interval = self.throughput.restart()
        speed = tokens / interval.seconds
        memory = peak_memory_gb(method.device)
        metrics = {
            **losses,
            "train/lr": result.learning_rate,
            "train/grad_norm": distributed.full_tensor(result.grad_norm).item(),
            "train/tokens_per_second": speed,
            "train/data_time_share": interval.data_share,
            "train/useful_token_share": useful_token_share(method.encoder, result.text_lengths),
            "train/negatives": method.negatives_per_anchor(batch),
        }
        self.logged, self.logged_step = metrics, trainer.global_step
        self.progress = {"loss": metrics["train/loss"], "tokens/s": speed}
        used = bf16_share(method.encoder, batch, speed / distributed.world_size())
        if used is not None:
            metrics["train/bf16_peak_share"] = self.progress["bf16 peak"] = used
        self.progress["data"] = interval.data_share
        if memory is not None:
            metrics["train/peak_memory_gb"] = self.progress["GB"] = memory
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
