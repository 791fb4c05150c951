"""How many tokens the micro-batches of a run may have, where memory decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.encoder.profiling.flops import bf16_peak
from sciembed_train.methods.base import Method
from sciembed_train.methods.engine.micro_batch_size import MicroBatchSize, choose_micro_batch_size
from sciembed_train.progress import print_line


class MicroBatchLimit(Callback):
    """Chooses the limit before the first step, keeps it in checkpoints, and reports it."""

    def __init__(
        self,
        share: Callable[[int], Any],
        dry_run: bool = True,
        write: Callable[[int], None] | None = None,
        quiet: bool = False,
    ) -> None:
        self.share, self.dry_run, self.write, self.quiet = share, dry_run, write, quiet
        self.chosen: MicroBatchSize | None = None
        self._previous: int | None = None  # the limit of the run that is continued

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the limit, on every rank; UserError if not even one example fits."""
        method = cast(Method, pl_module)
        # One whole model per process: a sharded one takes part of its memory in each layer's turn.
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        if not whole or method.max_tokens_per_backward is None:
            return
        bf16_peak(method.encoder.device)  # takes memory once, which may be short later
        with trainer.precision_plugin.train_step_context():
            self.chosen = choose_micro_batch_size(
                method,
                self.share(trainer.global_step),
                length=method.encoder.settings.max_length,
                processes_on_machine=trainer.num_devices,
                dry_run=self.dry_run,
                previous_max_tokens=self._previous,
            )
        method.micro_batch_tokens = self.chosen.tokens
        if self.chosen.message and self.chosen.tokens is not None:
            self._report(self.chosen.tokens, self.chosen.message)

    @rank_zero_only
    def _report(self, tokens: int, message: str) -> None:
        if self.write is not None:
            self.write(tokens)
        if not self.quiet:
            print_line(message)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the limit, if it splits the largest step."""
        splits = self.chosen is not None and self.chosen.splits
        checkpoint["cut_at"] = cast(Method, pl_module).micro_batch_tokens if splits else None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Split on as the run did: dropout is drawn micro-batch by micro-batch."""
        self._previous = checkpoint["cut_at"]
