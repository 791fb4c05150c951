"""What a checkpoint holds beside weights: all that export needs to know of the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from sciembed_train.encoder.io.encoder_checkpoint import CHECKPOINT_VERSION, describe
from sciembed_train.encoder.io.training_titles import Titles
from sciembed_train.export.checkpoint_file import TITLES
from sciembed_train.methods.base import Method


class CheckpointMetadata(Callback):
    """Adds the method's settings, its encoder and the facts of the training to checkpoints.

    Args:
        facts: of the training.
        folder: of the run, where the tokenizer writes its files for a moment: the machine's
            temporary folder may be full, and what a killed process leaves there stays.
        titles: of the papers that training reads; None where they are not known.
    """

    def __init__(
        self, facts: Mapping[str, Any], folder: Path | None = None, titles: Titles | None = None
    ) -> None:
        self.facts, self.folder, self.titles = facts, folder, titles

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add settings, the backbone's config and the tokenizer's files."""
        method, facts = cast(Method, pl_module), dict(self.facts)
        training = {**facts, **method.training_record, "steps": trainer.global_step}
        if facts.get("steps_per_epoch"):
            training["epochs"] = round(trainer.global_step / facts["steps_per_epoch"], 2)
        checkpoint["hyper_parameters"] = method.settings()
        checkpoint["sciembed"] = {
            "version": CHECKPOINT_VERSION,
            "method": type(method).__name__.lower(),
            **method.similarity_metadata,
            **method.nested.record,
            **describe(method.encoder, self.folder),
            **{key: facts[key] for key in ("base_model", "texts") if key in facts},
            "training": training,
        }
        if self.titles is not None:
            checkpoint["sciembed"][TITLES] = torch.from_numpy(self.titles.view(np.int64))
