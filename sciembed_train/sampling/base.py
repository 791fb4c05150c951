"""The interface of samplings: `data.sampling` of a recipe chooses how texts are paired.

A `Sampling` is a value of a recipe; opened on a corpus it becomes `Examples`, whose batches are
pure functions of (example, epoch, step).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill, indent
from typing import Any, ClassVar, Protocol, get_args, runtime_checkable

import numpy as np

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.plan import Plan, StepPlan
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

WIDTH = 96  # of a printed line


@dataclass(frozen=True)
class TextDescription:
    """A text of an example.

    Args:
        role: such as ``anchor``.
        ids: its token ids as the encoder reads them, special tokens included.
        source: what it is, such as the paper's id; empty for nothing.
        details: more about it, such as from how many tokens it was cut.
        sentences: token ranges of its sentences, where it is read sentence by sentence.
        marked: which of these sentences is marked; -1 for none.
    """

    role: str
    ids: Sequence[int]
    source: str = ""
    details: tuple[str, ...] = ()
    sentences: tuple[slice, ...] = ()
    marked: int = -1


@dataclass(frozen=True)
class ExampleDescription:
    """An example: what it is, its texts, and sentences about it."""

    title: str
    texts: tuple[TextDescription, ...]
    notes: tuple[str, ...] = ()


def format_example(example: ExampleDescription, decode: Callable[[Sequence[int]], str]) -> str:
    """An example as a paragraph for the terminal."""
    lines = [example.title]
    for text in example.texts:
        source = f": {text.source}" if text.source else ""
        details = ", ".join([f"{len(text.ids)} tokens", *text.details])
        lines.append(f"  {text.role}{source} ({details})")
        end = text.sentences[0].start if text.sentences else len(text.ids)
        lines.append(indent(fill(decode(text.ids[:end]), WIDTH - 4), "    "))
        for number, sentence in enumerate(text.sentences):
            mark = "    => " if number == text.marked else "     - "
            words = decode(text.ids[sentence])
            lines.append(fill(words, WIDTH, initial_indent=mark, subsequent_indent=" " * 7))
    lines.extend(f"  {note}" for note in example.notes)
    return "\n".join(lines)


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

    A class that inherits from it has to define the attributes without a default, `batch`,
    `dev_items` and `describe`. What `batch` returns inherits from `batch.ExampleBatch`.

    Attributes:
        name: a plural noun for messages, such as ``triplets``.
        train: number of training examples.
        fingerprint: sixteen hex digits that change when any example would.
        dev: what a method's validation needs to know about the held-out examples; it has a length.
        notes: sentences that `fit` prints, such as what was left out and why.
        min_batch_size: the smallest number of examples that a step of one rank can have.
        paper_pairs: number of training examples that pair different papers, where others do not;
            None where all do.
    """

    name: str
    train: int
    fingerprint: str
    dev: Any
    notes: tuple[str, ...] = ()
    min_batch_size: int = 1
    paper_pairs: int | None = None

    def batch(self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)) -> Any:
        """A rank's part of the training examples of an optimiser step.

        Args:
            indices: int64 ``[n]``, each below ``train``: the examples of the step on all ranks.
            epoch: which pass over the examples this is; draws may differ from pass to pass.
            step: the optimiser step, counted from 0 over the whole run.
            share: which of ``indices`` are this rank's. Examples that are compared with others of
                the step are drawn from all of ``indices``, so that every rank makes the same draw.
        """
        ...

    def dev_items(self, rank: int, world_size: int) -> Sequence[Any]:
        """The batches that one rank encodes for validation; each is made when it is read."""
        ...

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first training examples of epoch 0, for `show`."""
        ...

    def training_papers(self) -> np.ndarray | None:
        """The papers that training may read, ascending; None where its texts are no papers."""
        return None

    @property
    def queries(self) -> np.ndarray | None:
        """The query of each training example, by which `plan` may keep them together; or None."""
        return None

    def plan(
        self, batch_size: int, seed: int, world_size: int = 1, by_query: bool = False
    ) -> StepPlan:
        """How the training examples fill the steps of a run: each once an epoch.

        Raises:
            UserError: the batch size does not divide, or there are too few examples; or they are
                to stay together by their query and have none.
        """
        queries = self.queries if by_query else None
        if by_query and queries is None:
            raise no_queries(self.name)
        return Plan(self.train, batch_size, seed, world_size, queries)


def no_queries(name: str) -> UserError:
    """The error for examples without queries that are to be grouped by them."""
    return UserError(
        f"data.group_by_query keeps the triplets of a query together, and data.sampling gives "
        f"{name}. Leave it out, or train on mined triplets."
    )


class Sampling(ABC):
    """How texts are paired; a subclass is a frozen dataclass of settings.

    ``takes`` are the kinds of raw files it is prepared from, and ``needs`` those that it requires.
    ``texts`` is what an encoder learns to read: ``papers`` or ``sentences``.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    texts: ClassVar[str] = "papers"

    @abstractmethod
    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> Examples:
        """The examples of a corpus.

        Raises:
            UserError: the corpus holds nothing of the kind, or was not tokenised for this encoder.
        """

    def alignment_model(self, corpus: Corpus) -> str:
        """The model that has to align the corpus's sentences before `open`; empty for none.

        Raises:
            UserError: the corpus cannot be aligned as the settings ask.
        """
        return ""

    def with_alignment(self, name: str) -> Sampling:
        """The sampling that reads a named alignment in place of its `alignment_model`."""
        return self

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str, cites: bool = False) -> None:
        """Raise UserError if a raw file is missing for this sampling, or would not be used.

        Args:
            raw: the files by kind.
            format: of the papers.
            cites: whether the rows of the papers may name the papers that they cite.
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


def check_choices(sampling: Sampling, **choices: Any) -> None:
    """Raise UserError unless each named setting is one of the values of its ``Literal``."""
    for key, kind in choices.items():
        if (value := getattr(sampling, key)) not in (known := get_args(kind)):
            raise UserError(f"data.sampling.{key} is {value!r}; it is one of {', '.join(known)}.")


def fingerprint(corpus: Corpus, facts: Sequence[str], rows: np.ndarray) -> str:
    """Sixteen hex digits of examples, their texts' source files, and facts such as a token key."""
    sources = [source.get("sha256") for source in corpus.info.get("sources", [])]
    digest = hashlib.sha256(json.dumps([sources, *facts]).encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()[:16]


def named_class(path: str, base: type[Any]) -> Any:
    """The class of a dotted name; UserError if there is none, or none of the right kind."""
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"class_path {path} cannot be imported: {error}.") from error
    if not (isinstance(value, type) and issubclass(value, base)):
        raise UserError(f"class_path {path} is no {base.__name__}.")
    return value
