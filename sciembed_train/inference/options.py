"""Settings that embedding and evaluating share. Importing this module imports no torch."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

Similarity = Literal["euclidean", "cosine"]
SIMILARITIES: tuple[Similarity, ...] = ("euclidean", "cosine")
Scorer = Literal["document", "sentences", "best_match", "transport"]
SCORERS: tuple[Scorer, ...] = ("document", "sentences", "best_match", "transport")


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
        format_token: of a model with adapters, the one that reads the texts, by its code
            (``[PRX]``) or the name of its format.

    Raises:
        UserError: a value is out of its range.
    """

    pooling: Literal["cls", "mean"] | None = None
    max_length: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_tokens: int | None = None
    device: str = "auto"
    format_token: str | None = None

    def __post_init__(self) -> None:
        for key in ("batch_tokens", "max_length"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"--{key.replace('_', '-')} is {value}; expected 1 or more.")

    @property
    def format(self) -> str | None:
        """The name of the format that reads the texts."""
        names = {code: name for name, code in FORMATS.items()}
        return names.get(self.format_token or "", self.format_token)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of the command line."""
        add = parser.add_argument_group("how the model embeds").add_argument
        add("--pooling", choices=("cls", "mean"), help="instead of what the model records")
        add("--max-length", type=int, metavar="N", help="tokens, instead of what the model records")
        add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
        add("--batch-tokens", type=int, metavar="N", help="tokens encoded at once")
        add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
        add(
            "--format-token",
            choices=(*FORMATS.values(), *FORMATS),
            metavar="CODE",
            help="of a model with adapters, the one that reads the texts: "
            + ", ".join(f"{code} or {name}" for name, code in FORMATS.items()),
        )

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> EmbedSettings:
        """The settings that the command line gave."""
        return cls(**{key: getattr(args, key) for key in cls.__dataclass_fields__})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ScoreSettings:
    """By what papers are ranked; None for what the model records.

    Args:
        scorer: ``document`` compares one vector of title and abstract; the others compare
            sentences: ``sentences`` the nearest two of those encoded each alone, ``best_match``
            the nearest two of those encoded in their papers, ``transport`` all of these by
            optimal transport.
        similarity: what vectors of documents and of lone sentences are compared by.
        temperature: of transport; see `transport.TransportSettings`, as for the next two.
        blur: of transport.
        scaling: of transport.

    Raises:
        UserError: a setting does not belong to the scorer.
    """

    scorer: Scorer | None = None
    similarity: Similarity | None = None
    temperature: float | None = None
    blur: float | None = None
    scaling: float | None = None

    def __post_init__(self) -> None:
        if self.scorer is not None:
            self.check(self.scorer)

    def check(self, scorer: Scorer) -> None:
        """Refuse settings that another scorer has.

        Raises:
            UserError: there is one.
        """
        if self.similarity is not None and scorer in ("best_match", "transport"):
            raise UserError(
                f"--similarity goes with --scorer document or sentences; {scorer} compares by "
                "Euclidean distance. Leave it out."
            )
        for key in ("temperature", "blur", "scaling"):
            if getattr(self, key) is not None and scorer != "transport":
                raise UserError(f"--{key} goes with --scorer transport, not {scorer}.")

    @property
    def given(self) -> list[str]:
        """The options that were given, as the command line spells them."""
        keys = self.__dataclass_fields__
        return [f"--{key}" for key in keys if getattr(self, key) is not None]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Options of the command line."""
        group = parser.add_argument_group("by what papers are ranked, instead of what it records")
        add = group.add_argument
        add("--scorer", choices=SCORERS, help="one vector a paper, or by its sentences")
        add("--similarity", choices=SIMILARITIES, help="of documents and of lone sentences")
        add("--temperature", type=float, metavar="T", help="of transport: 5000 as published")
        add("--blur", type=float, metavar="B", help="of transport (0.05)")
        add("--scaling", type=float, metavar="S", help="of transport (0.9)")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> ScoreSettings:
        """The settings that the command line gave."""
        return cls(**{key: getattr(args, key) for key in cls.__dataclass_fields__})
