"""The data module: which rank encodes what at which step, and exact resume.

One item of the training loader is one rank's share of one optimiser step. The loader runs from
the first step that has not been made to the last of the run, over epochs; it keeps no position
of its own, so a run that is continued in mid-epoch goes on with the very next example.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from sciembed_train import distributed
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Examples, TokenizationSpec
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

NOTHING = (
    "There is nothing to train on: give --data.corpus CORPUS (a folder made by `train prepare`), "
    "or the raw files that the recipe's data.sampling takes."
)


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
        return self._timed(super().__iter__())  # made at once: it draws from torch's generator

    def _timed(self, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            self.waited += time.perf_counter() - start
            yield item


class TrainingData(LightningDataModule):
    """The examples of a prepared corpus, in the order that the seed gives."""

    def __init__(
        self, settings: DataSettings, corpus: Corpus, tokenization: TokenizationSpec
    ) -> None:
        super().__init__()
        self.settings, self.corpus, self.tokenization = settings, corpus, tokenization
        self._plans: dict[int, StepPlan] = {}
        self._loader: TimedLoader | None = None

    @classmethod
    def open(
        cls,
        settings: DataSettings,
        tokenizer: str | Path,
        max_length: int = 512,
        input_format: InputFormat = InputFormat(),  # noqa: B008 - frozen
    ) -> TrainingData:
        """The data of a prepared corpus; UserError if it cannot be opened."""
        if settings.corpus is None:
            raise UserError(NOTHING)
        loaded = TextTokenizer.load(tokenizer)
        tokenization = TokenizationSpec(loaded, input_format, max_length, settings.seed)
        return cls(settings, Corpus.open(settings.corpus), tokenization)

    @property
    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        return self._loader.waited if self._loader else 0.0

    @property
    def folder(self) -> Path:
        """The folder of the corpus."""
        return Path(self.corpus.folder)

    @cached_property
    def examples(self) -> Examples:
        """The corpus's examples, opened on first use and kept.

        Raises:
            UserError: the corpus was not prepared and tokenised as the encoder reads.
        """
        sampling = self.settings.sampling or TripletSampling()
        return sampling.open(self.corpus, self.tokenization, self.settings.dev_examples)

    @property
    def dev(self) -> Any:
        """What a method's validation needs to know of the held-out examples."""
        return self.examples.dev

    def plan(self, world_size: int) -> StepPlan:
        """How the training examples fill steps for so many ranks; raises as `Examples.plan`."""
        if world_size not in self._plans:
            data = self.settings
            self._plans[world_size] = self.examples.plan(
                data.batch_size, data.seed, world_size, data.group_by_query
            )
        return self._plans[world_size]

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
        """The batch as it is: a method splits it on the host and moves the micro-batches."""
        return batch

    def _make(self, data: Dataset[Any], sampler: Sampler[int] | None = None) -> TimedLoader:
        accelerated = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return TimedLoader(
            data,
            batch_size=None,
            sampler=sampler,
            num_workers=self.settings.num_workers,
            pin_memory=accelerated,
        )

    def state_dict(self) -> dict[str, Any]:
        """What must be the same for a resumed run to continue the same experiment."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.settings.seed,
            "batch_size": self.settings.batch_size,
            "group_by_query": self.settings.group_by_query,
            self.examples.name: self.examples.train,
            "corpus": self.examples.fingerprint,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise UserError if seed, batch size, sampling or corpus of the continued run differ."""
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
