"""Triplets of papers: query, cited and uncited paper, as they were mined when preparing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from sciembed_train.batch import TokenRows, TripletBatch
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import MinedNegatives, read_negatives
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    TokenizationSpec,
    fingerprint,
)
from sciembed_train.sampling.held_out_papers import (
    PaperBatches,
    ReadableTexts,
    by_slots,
    choose_dev,
)
from sciembed_train.sampling.negative_draws import HARD_STREAM, distinct_draws
from sciembed_train.sampling.plan import StepPlan, first_indices
from sciembed_train.sampling.span_positions import uniforms

NO_CITATIONS = (
    "--data.citations F is missing, and the papers name no references: triplets are mined from "
    "citations. Triplets of your own are "
    "given with --data.pairs F."
)
NOTHING = (
    "There is nothing to train on: give --data.corpus CORPUS (a folder made by `train prepare`), "
    "or --data.papers F and --data.citations F."
)
DEV_TRIPLETS = 20_000  # where no other number is asked for
NegativesFrom = Literal["triplets", "mined"]


@dataclass(frozen=True)
class TripletSampling(Sampling):
    """The corpus's triplets, each once an epoch, and its held-out triplets by whole queries.

    Args:
        negatives_from: ``triplets`` as they are, or ``mined``: hard negatives are drawn anew in
            each epoch from those that `mine` found for the query, easy ones stay. Of triplets
            without any hard one, such as ready-made ones, all negatives are drawn.
        mined_by: name of the mined negatives in the corpus; empty for the only ones.

    Raises:
        UserError: there is no such source of negatives.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", "citations", "pairs")
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    negatives_from: NegativesFrom = "triplets"
    mined_by: str = ""

    def __post_init__(self) -> None:
        if self.negatives_from not in (known := get_args(NegativesFrom)):
            raise UserError(
                f"data.sampling.negatives_from is {self.negatives_from!r}; it is one of "
                f"{', '.join(known)}."
            )

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> TripletExamples:
        """The triplets of a corpus that was mined and tokenised for this encoder."""
        key = tokenization.tokenizer.key(tokenization.input_format)
        train = _mined(corpus)  # first: a corpus of full texts alone has no tokens of papers either
        tokens = corpus.tokens(key)
        dev = choose_dev(np.asarray(corpus.triplets("dev")), dev_limit or DEV_TRIPLETS)
        if self.negatives_from == "triplets":
            digits = fingerprint(corpus, [key], train)
            return TripletExamples(tokens, train, dev, tokenization.max_length, digits)
        mined = read_negatives(corpus, self.mined_by)
        facts = [key, mined.name, json.dumps(dict(mined.info), sort_keys=True)]
        drawn = NegativesOfEpoch(mined, np.asarray(corpus.hard("train")), tokenization.seed)
        digits = fingerprint(corpus, facts, train)
        return TripletExamples(tokens, train, dev, tokenization.max_length, digits, drawn)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str, cites: bool = False) -> None:
        """Citations are needed unless triplets are given, or a folder of SPECTER's own files."""
        if "papers" not in raw and not set(raw) - set(cls.takes):
            raise UserError(NOTHING)
        super().check_raw(raw, format, cites)
        plain = format == "plain" or (format == "auto" and not Path(raw["papers"]).is_dir())
        if len(raw) == 1 and plain and not cites:
            raise UserError(NO_CITATIONS)


def _mined(corpus: Corpus) -> np.ndarray:
    if not (corpus.folder / "triplets" / "train.npy").is_file():
        raise UserError(f"{corpus.folder} holds no triplets. {NO_CITATIONS}")
    triplets = corpus.triplets("train")
    if not len(triplets):
        raise UserError(
            f"{corpus.folder} holds no training triplet; its report.json says why, with numbers."
        )
    return triplets


@dataclass(frozen=True)
class NegativesOfEpoch:
    """Mined negatives in the place of hard ones, drawn by (seed, epoch, triplet).

    Args:
        mined: the mined negatives.
        hard: whether each triplet's negative is a hard one ``[n]``; where none is, all are drawn.
        seed: of the draws.
    """

    mined: MinedNegatives
    hard: np.ndarray
    seed: int

    def of(
        self, indices: np.ndarray, triplets: np.ndarray, epoch: int, lengths: np.ndarray
    ) -> np.ndarray:
        """Triplets ``[B, 3]`` with their negatives of an epoch.

        A triplet keeps its own where its query has no mined negative, or none but its positive.
        """
        draws = uniforms(self.seed, HARD_STREAM, epoch, np.asarray(indices, np.int64), 2)
        drawn = distinct_draws(self.mined, triplets[:, 0], draws, lengths)[:, 0]
        replaced = (drawn >= 0) & (drawn != triplets[:, 1]) & (drawn != triplets[:, 0])
        if self.hard.any():
            replaced &= self.hard[indices]
        return np.stack([*triplets[:, :2].T, np.where(replaced, drawn, triplets[:, 2])], axis=1)


class TripletExamples(Examples):
    """Opened triplets: `Examples` for methods that compare two papers with a third.

    Args:
        tokens: of the papers.
        triplets: query, cited and uncited paper of each training triplet ``[n, 3]``; may be
            memory-mapped.
        dev_triplets: those to validate on ``[m, 3]``.
        max_length: tokens of a text at most, special tokens included.
        fingerprint: as of `Examples`.
        drawn: negatives that stand in the place of the triplets' own; None for none.
    """

    name = "triplets"

    def __init__(
        self,
        tokens: TokenStore,
        triplets: np.ndarray,
        dev_triplets: np.ndarray,
        max_length: int,
        fingerprint: str,
        drawn: NegativesOfEpoch | None = None,
    ) -> None:
        self.tokens, self.triplets, self.drawn = tokens, triplets, drawn
        self.max_length, self.fingerprint = max_length, fingerprint
        self.train = len(triplets)
        self.dev_papers, self.dev = by_slots(dev_triplets)

    @property
    def queries(self) -> np.ndarray:
        """The query of each training triplet, by which a plan may keep them together."""
        return np.asarray(self.triplets[:, 0])

    def training_papers(self) -> np.ndarray:
        """The papers of the training triplets, and mined negatives."""
        papers = np.unique(self.triplets)
        return papers if self.drawn is None else np.union1d(papers, self.drawn.mined.papers())

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> TripletBatch:
        """A rank's triplets, each distinct paper once; mined negatives are those of the epoch."""
        rows = self.of_epoch(indices[share], epoch)
        return triplet_batch(self.tokens, rows, np.arange(len(rows)), self.max_length, step)

    def of_epoch(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Query, positive and negative of some triplets in an epoch, ``[B, 3]``."""
        rows = np.asarray(self.triplets[indices], np.int64)
        if self.drawn is None:
            return rows
        return self.drawn.of(indices, rows, epoch, self.tokens.lengths)

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's papers of the held-out triplets, longest first, each paper once."""
        return PaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """Each triplet's papers with their ids and lengths."""
        paper_ids, hard = corpus.paper_ids(), corpus.hard("train")
        special = len(self.tokens.prefix) + len(self.tokens.suffix)
        examples = []
        for number in first_indices(plan, count).tolist():
            members = self.of_epoch(np.array([number]), 0)[0]
            kind = "hard" if hard[number] else "easy"
            kind = kind if members[2] == self.triplets[number, 2] else "mined"
            roles = ("anchor", "positive", f"negative ({kind})")
            texts = []
            for role, paper in zip(roles, members.tolist(), strict=True):
                ids, _ = self.tokens.rows(np.array([paper]), self.max_length)
                whole = int(self.tokens.lengths[paper]) + special
                details = (f"cut from {whole}",) if whole > len(ids) else ()
                texts.append(TextDescription(role, ids.tolist(), paper_ids[paper], details))
            examples.append(ExampleDescription(f"triplet {number:,}", tuple(texts)))
        return examples


def triplet_batch(
    tokens: ReadableTexts, triplets: np.ndarray, indices: np.ndarray, max_length: int, step: int
) -> TripletBatch:
    """The rows ``indices`` of ``[n, 3]`` triplets as a batch that has each paper once."""
    members = np.asarray(triplets[indices], dtype=np.int64)
    papers, rows_of_members = np.unique(members, return_inverse=True)
    columns = torch.from_numpy(rows_of_members.reshape(members.shape)).unbind(1)
    ids, lengths = tokens.rows(papers, max_length)
    rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
    anchor, positive, negative = (column.contiguous() for column in columns)
    return TripletBatch(rows, anchor, positive, negative, step)
