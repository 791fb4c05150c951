"""The low-rank updates (LoRA) that a backbone is trained by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank updates of a frozen backbone's linear layers, Hu et al. (2021).

    A layer computes ``W x + (alpha / rank) B A x``; ``A`` and ``B`` are trained, ``B`` from 0.

    Args:
        rank: rows of ``A``, columns of ``B``.
        alpha: what the update is multiplied by, times ``rank``.
        dropout: of ``x`` before ``A``.
        targets: names of the layers that are updated, or their ends, such as ``query`` or
            ``attention.output.dense``; none stands for every linear layer of the backbone's layers.

    Raises:
        UserError: a value is out of its range.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, fits, wanted in (
            ("rank", self.rank >= 1, "1 or more"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
            ("targets", all(self.targets), "names of layers"),
        ):
            if not fits:
                raise UserError(f"encoder.lora.{key} is {getattr(self, key)!r}; expected {wanted}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoraSettings:
        """The settings from plain values, where a tuple may have become a list."""
        return cls(**{**values, "targets": tuple(values["targets"])})
