"""Triplets of papers: query, cited and uncited paper, as they were mined when preparing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from sciembed_train.batch import DevTriplets, PaperBatch, TokenRows, TripletBatch
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling, TokenizationSpec

NO_CITATIONS = (
    "--data.citations F is missing: triplets are mined from citations. Triplets of your own are "
    "given with --data.pairs F."
)
NOTHING = (
    "There is nothing to train on: give --data.corpus CORPUS (a folder made by `train prepare`), "
    "or --data.papers F and --data.citations F."
)
DEV_TRIPLETS = 20_000  # where no other number is asked for
PAPERS_PER_BATCH = 128  # of a validation batch; the encoder cuts it further by tokens


@runtime_checkable
class Tokens(Protocol):
    """What is asked of a token store: the ids of some papers, end to end."""

    def rows(self, papers: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Flat ids with special tokens, and the number of ids of each paper."""
        ...


@dataclass(frozen=True)
class TripletSampling(Sampling):
    """The corpus's triplets, each once an epoch, and its held-out triplets by whole queries."""

    takes: ClassVar[tuple[str, ...]] = ("papers", "citations", "pairs")
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> TripletExamples:
        """The triplets of a corpus that was mined and tokenised for this encoder."""
        key = tokenization.tokenizer.key(tokenization.input_format)
        train = _mined(corpus)  # first: a corpus of full texts alone has no tokens of papers either
        tokens = corpus.tokens(key)
        dev = choose_dev(np.asarray(corpus.triplets("dev")), dev_limit or DEV_TRIPLETS)
        known_by = fingerprint(corpus, [key], train)
        return TripletExamples(tokens, train, dev, tokenization.max_length, known_by)

    @classmethod
    def check_raw(cls, raw: Mapping[str, str], format: str) -> None:
        """Citations are needed unless triplets are given, or a folder of SPECTER's own files."""
        if "papers" not in raw and not set(raw) - set(cls.takes):
            raise UserError(NOTHING)
        super().check_raw(raw, format)
        plain = format == "plain" or (format == "auto" and not Path(raw["papers"]).is_dir())
        if len(raw) == 1 and plain:
            raise UserError(NO_CITATIONS)


def _mined(corpus: Corpus) -> np.ndarray:
    if not (corpus.folder / "triplets" / "train.npy").is_file():
        raise UserError(f"{corpus.folder} holds no triplets. {NO_CITATIONS}")
    return corpus.triplets("train")


class TripletExamples:
    """Opened triplets: `Examples` for methods that compare two papers with a third.

    Args:
        tokens: the corpus's token store.
        triplets: int32 ``[n, 3]``, the training triplets; may be memory-mapped.
        dev_triplets: int32 ``[m, 3]``, those to validate on.
        max_length: tokens of a text, special tokens included.
        fingerprint: of the triplets, the texts' source files and the tokenisation.
    """

    name = "triplets"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        tokens: TokenStore,
        triplets: np.ndarray,
        dev_triplets: np.ndarray,
        max_length: int,
        fingerprint: str,
    ) -> None:
        self.tokens, self.triplets = tokens, triplets
        self.max_length, self.fingerprint = max_length, fingerprint
        self.train = len(triplets)
        self.dev_papers, self.dev = by_slots(dev_triplets)

    @property
    def queries(self) -> np.ndarray:
        """The query of each training triplet, by which a plan may keep them together."""
        return np.asarray(self.triplets[:, 0])

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> TripletBatch:
        """A rank's triplets, each distinct paper once; no draw depends on the epoch."""
        return triplet_batch(self.tokens, self.triplets, indices[share], self.max_length, step)

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's papers of the held-out triplets, longest first, each paper once."""
        return PaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)


class PaperBatches(Sequence[PaperBatch]):
    """Batches of the papers that one rank encodes for validation, longest first.

    Args:
        tokens: their store.
        papers: all of them.
        max_length: tokens of a text at most, special tokens included.
        rank, world_size: every ``world_size``-th is this rank's.
        formats: the format that reads each, where there are several.
    """

    def __init__(
        self,
        tokens: TokenStore,
        papers: np.ndarray,
        max_length: int,
        rank: int,
        world_size: int,
        formats: np.ndarray | None = None,
    ) -> None:
        self.tokens, self.papers, self.max_length = tokens, papers, max_length
        self.formats = formats
        self.slots = np.argsort(-tokens.lengths[papers], kind="stable")[rank::world_size]

    def __len__(self) -> int:
        return -(-len(self.slots) // PAPERS_PER_BATCH)

    def __getitem__(self, index: Any) -> Any:
        slots = self.slots[index * PAPERS_PER_BATCH : (index + 1) * PAPERS_PER_BATCH]
        ids, lengths = self.tokens.rows(self.papers[slots], self.max_length)
        rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
        read = None if self.formats is None else torch.from_numpy(self.formats[slots])
        return PaperBatch(rows, torch.from_numpy(slots), formats=read)


def triplet_batch(
    tokens: Tokens, triplets: np.ndarray, indices: np.ndarray, max_length: int, step: int
) -> TripletBatch:
    """The named triplets as a batch in which each distinct paper stands once.

    Args:
        tokens: the corpus's token store.
        triplets: int32 ``[n, 3]`` papers: query, positive, negative; may be memory-mapped.
        indices: rows of ``triplets``.
        max_length: tokens of a text, special tokens included.
        step: the optimiser step the batch is for.
    """
    chosen = np.asarray(triplets[indices], dtype=np.int64)
    papers, where = np.unique(chosen, return_inverse=True)
    where = torch.from_numpy(where.reshape(chosen.shape))
    ids, lengths = tokens.rows(papers, max_length)
    rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
    anchor, positive, negative = (where[:, column].contiguous() for column in range(3))
    return TripletBatch(rows, anchor, positive, negative, step)


def by_slots(triplets: np.ndarray) -> tuple[np.ndarray, DevTriplets]:
    """The distinct papers of held-out triplets, and the triplets as positions among them."""
    papers, where = np.unique(triplets, return_inverse=True)
    slots = torch.from_numpy(where.reshape(triplets.shape).astype(np.int64))
    return papers, DevTriplets(slots[:, 0], slots[:, 1], slots[:, 2], len(papers))


def fingerprint(corpus: Corpus, facts: Sequence[str], rows: np.ndarray) -> str:
    """Sixteen hex digits of examples, their texts' source files, and facts such as a token key."""
    sources = [source.get("sha256") for source in corpus.info.get("sources", [])]
    digest = hashlib.sha256(json.dumps([sources, *facts]).encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()[:16]


def choose_dev(triplets: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` triplets, all of a query's or none, always the same ones."""
    if len(triplets) <= limit:
        return triplets
    queries, of, counts = np.unique(triplets[:, 0], return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(queries))
    fits = np.cumsum(counts[order]) <= limit
    fits[0] = True  # a single query may have more than the limit
    keep = np.zeros(len(queries), dtype=bool)
    keep[order[fits]] = True
    return triplets[keep[of.reshape(-1)]]
