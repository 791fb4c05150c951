"""What to train on: ``data`` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from sciembed_train.corpus.prepare_settings import CorpusSettings
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Sampling

# Each is a process with a copy of the program: more of them are a slip, and fill the memory.
MOST_WORKERS = 256


@dataclass(frozen=True)
class DataSettings(CorpusSettings):
    """The corpus, or the files to make one from.

    Args:
        corpus: a folder made by ``prepare``, in place of the files.
        sampling: how examples are paired; triplets where it is null.
        batch_size: examples per optimiser step, over all ranks.
        group_by_query: keep the triplets of a query in one step, where each of its papers is then
            encoded once. Faster, and another experiment: the triplets of a step are no longer
            drawn independently.
        num_workers: processes that read ahead. Reading is one copy out of memory-mapped files, so
            0 is fastest where the files are on a local disk.
        dev_examples: held-out examples to validate on, at most; null for the sampling's own number
            (20,000 triplets, by whole queries; 500 documents; 2,000 pairs; 2,000 of each task).

    Raises:
        UserError: a number is out of range.
    """

    corpus: str | None = None
    sampling: Sampling | None = None
    batch_size: int = 32
    group_by_query: bool = False
    num_workers: int = 0
    dev_examples: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"batch_size": 1, "num_workers": 0, "dev_examples": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UserError(f"data.{name} must be {lowest} or more; got {value}.")
        if self.num_workers > MOST_WORKERS:
            raise UserError(
                f"data.num_workers must be {MOST_WORKERS} processes or fewer; got "
                f"{self.num_workers}."
            )
