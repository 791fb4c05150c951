"""What a way of sampling is: `data.sampling` of a recipe says which texts meet.

A `Sampling` is a value of a recipe; opened on a corpus it becomes `Examples`, whose batches are
pure functions of (example, epoch, step).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class TokenizationSpec:
    """How the encoder reads.

    Args:
        tokenizer: the encoder's.
        input_format: how title and abstract become one text.
        max_length: tokens of a text at most, special tokens included.
        seed: of every draw that examples make.
    """

    tokenizer: TextTokenizer
    input_format: InputFormat
    max_length: int
    seed: int


@runtime_checkable
class Examples(Protocol):
    """The examples of a corpus, opened for training; sent to a worker without their tokens.

    Attributes:
        name: a plural noun for messages, such as ``triplets``.
        train: number of training examples.
        fingerprint: sixteen hex digits that change when any example would.
        notes: sentences that `fit` says, such as what was left out and why.
        dev: what a method's validation must know of the held-out examples; it has a length.
    """

    name: str
    train: int
    fingerprint: str
    notes: tuple[str, ...]
    dev: Any

    def batch(self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)) -> Any:
        """A rank's part of the training examples of an optimiser step.

        Args:
            indices: int64 ``[n]``, each below ``train``: the examples of the step on all ranks.
            epoch: which pass over the examples this is; draws may differ from pass to pass.
            step: the optimiser step, counted from 0 over the whole run.
            share: which of ``indices`` are this rank's. Examples of which each needs only itself
                look at no other; where examples meet, all ranks know who meets whom.
        """
        ...

    def dev_items(self, rank: int, world_size: int) -> Sequence[Any]:
        """The batches that one rank encodes for validation; each is made when it is asked for."""
        ...


class Sampling:
    """Which texts meet; a subclass is a frozen dataclass of settings.

    ``takes`` are the kinds of raw files it is prepared from, and ``needs`` those of them it
    cannot do without. ``texts`` says what an encoder learns to read: ``papers`` or ``sentences``.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    texts: ClassVar[str] = "papers"

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> Examples:
        """The examples of a corpus.

        Args:
            corpus: an opened corpus.
            tokenization: how the encoder reads.
            dev_limit: most held-out examples to validate on; None for the sampling's own number.

        Raises:
            UserError: the corpus holds nothing of the kind, or was not tokenised for this encoder.
        """
        raise NotImplementedError

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str) -> None:
        """See that these raw files can be prepared for this sampling.

        Args:
            raw: kind of file to its place.
            format: how the files are written, as for `prepare`.

        Raises:
            UserError: a file is missing, or would not be used.
        """
        for kind in raw:
            if kind not in cls.takes:
                raise UserError(
                    f"data.{kind} is not used by data.sampling {cls.__name__}, which takes "
                    f"{' and '.join(cls.takes)}. Leave it out, or choose another recipe."
                )
        for kind in cls.needs:
            if kind not in raw:
                raise UserError(
                    f"There is nothing to train on: give --data.corpus CORPUS (a folder made by "
                    f"`train prepare`), or --data.{kind} F."
                )


def named_class(path: str, base: type[Any]) -> Any:
    """The class of a dotted name.

    Raises:
        UserError: there is none, or it is not of the right kind.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"class_path {path} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"class_path {path} is no {base.__name__}.")
    return found
