"""The data module: which rank encodes what at which step, and exact resume.

One item of the training loader is one rank's share of one optimiser step. The loader runs from
the first step that has not been made to the last of the run, over epochs; it keeps no position
of its own, so a run that is continued in mid-epoch goes on with the very next example.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from sciembed_train import distributed
from sciembed_train.batches import DevTriplets, PaperBatch, TokenRows, TripletBatch
from sciembed_train.corpus.mining.triplets import TripletMining
from sciembed_train.corpus.store import Corpus
from sciembed_train.corpus.tokens import TokenStore
from sciembed_train.errors import UserError
from sciembed_train.inputs import InputFormat, TextTokenizer
from sciembed_train.sampling.triplets import Plan, epoch_order, triplet_batch

NOTHING = (
    "There is nothing to train on: give --data.corpus CORPUS (a folder made by `train prepare`), "
    "or --data.papers F and --data.citations F."
)
PAPERS_PER_BATCH = 128  # of a validation batch; the encoder cuts it further by tokens


class StepDataset(Dataset[TripletBatch]):
    """Batches by optimiser step: item ``s`` is this rank's share of step ``s``."""

    def __init__(
        self, tokens: TokenStore, triplets: np.ndarray, plan: Plan, rank: int, max_length: int
    ) -> None:
        self.tokens, self.triplets = tokens, triplets
        self.plan, self.rank, self.max_length = plan, rank, max_length
        self._order: tuple[int, np.ndarray] | None = None

    def __getitem__(self, step: int) -> TripletBatch:
        epoch = step // self.plan.steps_per_epoch
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, epoch_order(self.plan.examples, self.plan.seed, epoch))
        indices = self.plan.indices(step, self.rank, self._order[1])
        return triplet_batch(self.tokens, self.triplets, indices, self.max_length, step)


class PaperDataset(Dataset[PaperBatch]):
    """Batches of the papers that one rank encodes for validation."""

    def __init__(
        self, tokens: TokenStore, papers: np.ndarray, slots: np.ndarray, max_length: int
    ) -> None:
        self.tokens, self.papers, self.slots = tokens, papers, slots
        self.max_length = max_length

    def __len__(self) -> int:
        return -(-len(self.slots) // PAPERS_PER_BATCH)

    def __getitem__(self, index: int) -> PaperBatch:
        slots = self.slots[index * PAPERS_PER_BATCH : (index + 1) * PAPERS_PER_BATCH]
        ids, lengths = self.tokens.rows(self.papers[slots], self.max_length)
        rows = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
        return PaperBatch(rows, torch.from_numpy(slots))


class Steps(Sampler[int]):
    """The steps still to be made; its length is that of the whole run.

    Lightning counts the items it has had in the whole run, also before a resume, and stops when
    that count reaches the length.
    """

    def __init__(self, module: TripletData, total: int) -> None:
        self.module, self.total = module, total

    def __iter__(self) -> Iterator[int]:
        trainer = self.module.trainer
        return iter(range(trainer.global_step if trainer else 0, self.total))

    def __len__(self) -> int:
        return self.total


class TimedLoader(DataLoader[Any]):
    """A loader that adds up how long its user has waited for items, ``waited`` in seconds."""

    waited: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return _Timed(self, super().__iter__())


class _Timed:
    def __init__(self, loader: TimedLoader, items: Iterator[Any]) -> None:
        self.loader, self.items = loader, items

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        item = next(self.items)
        self.loader.waited += time.perf_counter() - start
        return item


class TripletData(LightningDataModule):
    """Triplets of a prepared corpus, in the order that the seed gives.

    Args:
        corpus: folder made by ``prepare``. Or raw files, of which ``fit`` has a corpus prepared
            before training; everything said of mining and splits counts only for them:
        papers: a file of papers, or a dataset of the ``datasets`` library.
        citations: likewise, of citations.
        pairs: triplets given ready, taken in place of mined ones.
        format: how the files are written; ``auto`` sees SPECTER's own by their names.
        triplets: how triplets are mined.
        dev_share: share of the papers held out as queries for validation.
        test_share: share held out for testing.
        dev_ids: file of paper ids that are held out for validation instead of a share.
        test_ids: likewise for testing.
        memory: bytes of memory that preparing stays under.
        threads: of preparing; null for one per core.
        max_bad_rows: malformed rows per file that are skipped before the program refuses.
        batch_size: triplets per optimiser step over all ranks.
        seed: of the order of the examples and of dropout, and of the split and the mining.
        num_workers: processes that read ahead. Reading is one copy out of memory-mapped files,
            so 0 is fastest where the files are on a local disk.
        dev_triplets: validate on at most so many held-out triplets, chosen by whole queries.
        max_length: tokens of a text; comes from the encoder.
        tokenizer: name or folder; comes from the encoder.
        form: the input format; comes from the encoder.

    Raises:
        UserError: no corpus is given, or a number is out of range.
    """

    def __init__(
        self,
        corpus: str | None = None,
        papers: str | None = None,
        citations: str | None = None,
        pairs: str | None = None,
        format: Literal["auto", "plain", "specter"] = "auto",
        triplets: TripletMining = TripletMining(),  # noqa: B008 - frozen
        dev_share: float = 0.05,
        test_share: float = 0.05,
        dev_ids: str | None = None,
        test_ids: str | None = None,
        memory: str = "4GB",
        threads: int | None = None,
        max_bad_rows: int = 0,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        dev_triplets: int = 20_000,
        max_length: int = 512,
        tokenizer: str = "",
        form: InputFormat = InputFormat(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        # A rank may have no held-out paper to encode where there are more ranks than papers.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if corpus is None:
            raise UserError(NOTHING)
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
            ("dev_triplets", dev_triplets, 1),
        ):
            if value < least:
                raise UserError(f"data.{key} must be {least} or more; got {value}.")
        self.folder = Path(corpus)
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.dev_limit = dev_triplets
        self.max_length, self.tokenizer, self.form = max_length, tokenizer, form
        self.corpus: Corpus | None = None
        self.dev_triplets: DevTriplets | None = None
        self._loader: TimedLoader | None = None

    @property
    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        return self._loader.waited if self._loader else 0.0

    def open(self) -> Corpus:
        """Open the corpus, its tokens and its triplets.

        Raises:
            UserError: it is no corpus, or was not tokenised as the encoder reads.
        """
        if self.corpus is None:
            corpus = Corpus.open(self.folder)
            key = TextTokenizer.load(self.tokenizer).key(self.form)
            self.tokens = corpus.tokens(key)
            self.train_triplets = corpus.triplets("train")
            self.fingerprint = _fingerprint(corpus, key, self.train_triplets)
            dev = _choose_dev(np.asarray(corpus.triplets("dev")), self.dev_limit)
            self.dev_papers, where = np.unique(dev, return_inverse=True)
            slots = torch.from_numpy(where.reshape(dev.shape).astype(np.int64))
            self.dev_triplets = DevTriplets(
                slots[:, 0], slots[:, 1], slots[:, 2], len(self.dev_papers)
            )
            self.corpus = corpus
        return self.corpus

    def plan(self, world_size: int) -> Plan:
        """How the training triplets fill steps for so many ranks.

        Raises:
            UserError: the batch size does not divide, or there are too few triplets.
        """
        self.open()
        return Plan(len(self.train_triplets), self.batch_size, self.seed, world_size)

    def setup(self, stage: str) -> None:
        """Open everything on this rank."""
        self.open()

    def train_dataloader(self) -> TimedLoader:
        """Shares of the steps still to be made, one an item.

        Raises:
            ValueError: the trainer's end is not given in steps.
        """
        total = self.trainer.max_steps if self.trainer else 0
        if total < 1:
            raise ValueError(
                "the trainer needs max_steps (Plan.steps_per_epoch times the epochs): "
                "a run's length in epochs does not survive a resume in mid-epoch"
            )
        plan = self.plan(distributed.world_size())
        data = StepDataset(
            self.tokens, self.train_triplets, plan, distributed.rank(), self.max_length
        )
        self._loader = self._make(data, sampler=Steps(self, total))
        return self._loader

    def val_dataloader(self) -> TimedLoader:
        """This rank's papers of the held-out triplets, longest first, each paper once."""
        self.open()
        lengths = self.tokens.lengths[self.dev_papers]
        longest_first = np.argsort(-lengths, kind="stable")
        slots = longest_first[distributed.rank() :: distributed.world_size()]
        return self._make(PaperDataset(self.tokens, self.dev_papers, slots, self.max_length))

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """The batch on the device; Lightning itself waits for each copy of a type of our own."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def _make(self, data: Dataset[Any], sampler: Sampler[int] | None = None) -> TimedLoader:
        accelerated = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return TimedLoader(
            data,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=accelerated,
        )

    def state_dict(self) -> dict[str, Any]:
        """What must be the same for a resumed run to continue the same experiment."""
        assert self.trainer is not None
        return {
            "step": self.trainer.global_step,
            "seed": self.seed,
            "triplets": len(self.train_triplets),
            "batch_size": self.batch_size,
            "corpus": self.fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the run that is being continued.

        Raises:
            UserError: seed, batch size or corpus differ: the order would be another one.
        """
        self.open()
        here = {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "triplets": len(self.train_triplets),
            "corpus": self.fingerprint,
        }
        for key, value in here.items():
            if state_dict[key] != value:
                raise UserError(
                    f"This checkpoint was trained with data.{key}={state_dict[key]}; now it is "
                    f"{value}. A continued run keeps its data: set it back, or start anew with "
                    "another --run."
                )


def _fingerprint(corpus: Corpus, key: str, triplets: np.ndarray) -> str:
    """Sixteen hex digits of the triplets, the texts' source files and the tokenisation."""
    digest = hashlib.sha256()
    sources = [source.get("sha256") for source in corpus.info.get("sources", [])]
    digest.update(json.dumps([sources, key]).encode())
    digest.update(np.ascontiguousarray(triplets).data)
    return digest.hexdigest()[:16]


def _choose_dev(triplets: np.ndarray, limit: int) -> np.ndarray:
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
