"""What the validation of every method does."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from sciembed_train.encoder.encoder import Encoder


@runtime_checkable
class HeldOut(Protocol):
    """Encodes the held-out texts during validation, and scores their vectors."""

    def clear(self) -> None:
        """Forget the last validation."""
        ...

    def add(self, encoder: Encoder, batch: Any) -> None:
        """Encode a batch of held-out texts."""
        ...

    def scores(self, dev: Any, device: torch.device) -> dict[str, float]:
        """The scores by name without ``val/``, the same on every rank; none if nothing was added.

        Every rank calls it, also one that has encoded nothing: it gathers.
        """
        ...
