"""Settings that embedding and evaluating share. Importing this module imports no torch."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sciembed_train.errors import UserError

Similarity = Literal["euclidean", "cosine"]
SIMILARITIES: tuple[Similarity, ...] = ("euclidean", "cosine")


@dataclass(frozen=True)
class EmbedSettings:
    """How a model embeds.

    Args:
        pooling: instead of what the model folder records.
        max_length: most tokens of a text, instead of what the model folder records.
        precision: of the matrix products; embeddings are always float32.
        batch_tokens: tokens encoded at once; None takes what was measured for the device. It
            changes speed and memory, and results by rounding alone.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        UserError: a value is out of its range.
    """

    pooling: Literal["cls", "mean"] | None = None
    max_length: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_tokens: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for key in ("batch_tokens", "max_length"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"--{key.replace('_', '-')} is {value}; expected 1 or more.")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of the command line."""
        add = parser.add_argument_group("how the model embeds").add_argument
        add("--pooling", choices=("cls", "mean"), help="instead of what the model records")
        add("--max-length", type=int, metavar="N", help="tokens, instead of what the model records")
        add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
        add("--batch-tokens", type=int, metavar="N", help="tokens encoded at once")
        add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> EmbedSettings:
        """The settings that the command line gave."""
        return cls(**{key: getattr(args, key) for key in cls.__dataclass_fields__})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
