"""How checkpoints are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO


class RunCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name, then renames it: a killed run leaves the one before.

    Every checkpoint of a run goes through it. Lightning's own builds the whole file in memory
    first.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write it.

        Args:
            checkpoint: as Lightning makes it.
            path: of the file; its folder is made.
            storage_options: must be None; they are of other file systems.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are files of this machine and take no storage_options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        torch.save(checkpoint, partial)
        partial.replace(path)
