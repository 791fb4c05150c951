"""The data module: which rank encodes what at which step, and exact resume.

One item of the training loader is one rank's share of one optimiser step. The loader runs from
the first step that has not been made to the last of the run, over epochs; it keeps no position
of its own, so a run that is continued in mid-epoch goes on with the very next example.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from sciembed_train import distributed
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Examples, Sampling, TokenizationSpec
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

NOTHING = (
    "There is nothing to train on: give --data.corpus CORPUS (a folder made by `train prepare`), "
    "or the raw files that the recipe's data.sampling takes."
)
# Kinds of raw files.
RAW = ("papers", "citations", "pairs", "fulltexts", "contexts", "cocitations", "tasks")


class StepDataset(Dataset[Any]):
    """Batches by optimiser step: item ``s`` is this rank's share of step ``s``."""

    def __init__(self, examples: Examples, plan: StepPlan, rank: int) -> None:
        self.examples, self.plan, self.rank = examples, plan, rank

    def __getitem__(self, step: int) -> Any:
        plan = self.plan
        share = plan.share(self.rank)
        return self.examples.batch(plan.indices(step), plan.epoch(step), step, share)


class Items(Dataset[Any]):
    """A sequence as a dataset; an empty one has a single item, None.

    Lightning leaves the whole validation out on a rank without a batch, and the other ranks would
    wait for its part of the scores for ever.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return max(1, len(self.items))

    def __getitem__(self, index: int) -> Any:
        return self.items[index] if len(self.items) else None


class Steps(Sampler[int]):
    """The steps still to be made; its length is that of the whole run.

    Lightning counts the items it has had in the whole run, also before a resume, and stops when
    that count reaches the length.
    """

    def __init__(self, module: TrainingData, total: int) -> None:
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


class TrainingData(LightningDataModule):
    """The examples of a prepared corpus, in the order that the seed gives.

    Args:
        sampling: which texts meet; the triplets that were mined, unless said otherwise.
        corpus: folder made by ``prepare``. Or raw files, of which ``fit`` has a corpus prepared
            before training; everything said of mining and splits counts only for them:
        papers: a file of papers, or a dataset of the ``datasets`` library.
        citations: likewise, of citations.
        pairs: triplets given ready, taken in place of mined ones.
        fulltexts: a file or folder of documents.
        contexts: a file of citing sentences and the papers each cites.
        cocitations: a file of pairs of papers that are cited together.
        tasks: a list of tasks, or a folder that holds one and their data.
        format: how the files are written; ``auto`` sees SPECTER's own by their names.
        triplets: how triplets are mined.
        cocitation_mining: how pairs of co-cited papers are mined.
        task_building: how the records of tasks become examples.
        dev_share: share of the papers or documents held out for validation.
        test_share: share held out for testing.
        dev_ids: file of ids that are held out for validation instead of a share.
        test_ids: likewise for testing.
        exclude_ids: file of ids of papers that are in no co-cited pair.
        memory: bytes of memory that preparing stays under.
        threads: of preparing; null for one per core.
        max_bad_rows: malformed rows per file that are skipped before the program refuses.
        batch_size: examples per optimiser step over all ranks.
        group_by_query: keep the triplets of a query in one step, where each of its papers is then
            encoded once. Faster, and another experiment: the triplets of a step are no longer
            drawn independently.
        seed: of the order of the examples, of what is drawn of them, and of dropout; of the split
            and the mining.
        num_workers: processes that read ahead. Reading is one copy out of memory-mapped files,
            so 0 is fastest where the files are on a local disk.
        dev_examples: validate on at most so many held-out examples; null for the sampling's own
            number (20,000 triplets, by whole queries; 500 documents; 2,000 pairs). Of tasks it
            counts for each (2,000).
        max_length: tokens of a text; comes from the encoder.
        tokenizer: name or folder; comes from the encoder.
        input_format: the input format; comes from the encoder.

    Raises:
        UserError: no corpus is given, or a number is out of range.
    """

    def __init__(
        self,
        sampling: Sampling | None = None,
        corpus: str | None = None,
        papers: str | None = None,
        citations: str | None = None,
        pairs: str | None = None,
        fulltexts: str | None = None,
        contexts: str | None = None,
        cocitations: str | None = None,
        tasks: str | None = None,
        format: Literal["auto", "plain", "specter"] = "auto",
        triplets: TripletMining = TripletMining(),  # noqa: B008 - frozen
        cocitation_mining: CocitationMining = CocitationMining(),  # noqa: B008 - frozen
        task_building: TaskBuilding = TaskBuilding(),  # noqa: B008 - frozen
        dev_share: float = 0.05,
        test_share: float = 0.05,
        dev_ids: str | None = None,
        test_ids: str | None = None,
        exclude_ids: str | None = None,
        memory: str = "4GB",
        threads: int | None = None,
        max_bad_rows: int = 0,
        batch_size: int = 32,
        group_by_query: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        dev_examples: int | None = None,
        max_length: int = 512,
        tokenizer: str = "",
        input_format: InputFormat = InputFormat(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if corpus is None:
            raise UserError(NOTHING)
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
            ("dev_examples", 1 if dev_examples is None else dev_examples, 1),
        ):
            if value < least:
                raise UserError(f"data.{key} must be {least} or more; got {value}.")
        self.sampling = sampling or TripletSampling()
        self.folder = Path(corpus)
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.group_by_query = group_by_query
        self.dev_limit = dev_examples
        self.max_length, self.tokenizer, self.input_format = max_length, tokenizer, input_format
        self._examples: Examples | None = None
        self._loader: TimedLoader | None = None

    @property
    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        return self._loader.waited if self._loader else 0.0

    @property
    def examples(self) -> Examples:
        """The corpus's examples, opened on first use.

        Raises:
            UserError: it is no corpus, or was not prepared and tokenised as the encoder reads.
        """
        if self._examples is None:
            tokenizer = TextTokenizer.load(self.tokenizer)
            tokenization = TokenizationSpec(
                tokenizer, self.input_format, self.max_length, self.seed
            )
            corpus = Corpus.open(self.folder)
            self._examples = self.sampling.open(corpus, tokenization, self.dev_limit)
        return self._examples

    @property
    def dev(self) -> Any:
        """What a method's validation must know of the held-out examples."""
        return self.examples.dev

    def plan(self, world_size: int) -> StepPlan:
        """How the training examples fill steps for so many ranks.

        Raises:
            UserError: as `Examples.plan`.
        """
        return self.examples.plan(self.batch_size, self.seed, world_size, self.group_by_query)

    def share(self, step: int) -> Any:
        """This rank's share of an optimiser step."""
        plan = self.plan(distributed.world_size())
        return StepDataset(self.examples, plan, distributed.rank())[step]

    def setup(self, stage: str) -> None:
        """Open everything on this rank."""
        _ = self.examples

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
        data = StepDataset(self.examples, plan, distributed.rank())
        self._loader = self._make(data, sampler=Steps(self, total))
        return self._loader

    def val_dataloader(self) -> TimedLoader:
        """This rank's share of the held-out texts."""
        items = self.examples.dev_items(distributed.rank(), distributed.world_size())
        return self._make(Items(items))

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """The batch as it is: a method cuts it on the host and brings the pieces to the device."""
        return batch

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
        return {"step": self.trainer.global_step, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "group_by_query": self.group_by_query,
            self.examples.name: self.examples.train,
            "corpus": self.examples.fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the run that is being continued.

        Raises:
            UserError: seed, batch size, sampling or corpus differ: the order would be another one.
        """
        state_dict = {"group_by_query": False, **state_dict}  # older checkpoints know of none
        for key, value in self._identity().items():
            if key not in state_dict:
                raise UserError(
                    f"This checkpoint was not trained on {self.examples.name} as they are sampled "
                    "now. Continue it with the recipe it was started with, or start anew with "
                    "another --run."
                )
            if state_dict[key] == value:
                continue
            if key in ("seed", "batch_size", "group_by_query"):
                raise UserError(
                    f"This checkpoint was trained with data.{key}={state_dict[key]}; now it is "
                    f"{value}. A continued run keeps its data: set it back, or start anew with "
                    "another --run."
                )
            raise UserError(
                f"This checkpoint was trained on other {self.examples.name}: the corpus or "
                f"data.sampling is not what it was ({key} {state_dict[key]} then, {value} now). A "
                "continued run keeps its data: give the same, or start anew with another --run."
            )
