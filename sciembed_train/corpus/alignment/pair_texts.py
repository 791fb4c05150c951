"""The texts for aligning the sentences of co-cited papers: sentences and contexts, as streams.

Shapes: ``N`` pairs of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.alignment.alignments import AlignSettings
from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError

ROWS = 2**16  # pairs read at once
TEXTS = 2**13  # contexts read at once
AGAIN = "Remove the corpus and run prepare again."

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ChosenContexts:
    """The contexts that are used for the pairs of a split.

    ``contexts`` are their numbers in ``contexts.parquet``, pair after pair; ``range_starts`` the
    first in ``contexts`` of each pair, then the number of all.
    """

    contexts: Ints
    range_starts: Ints

    @property
    def pairs_with_any(self) -> int:
        """Pairs that have a context."""
        return int((np.diff(self.range_starts) > 0).sum())


def choose_contexts(corpus: Corpus, split: Split, settings: AlignSettings) -> ChosenContexts:
    """At most ``settings.contexts`` contexts of each pair, a function of the seed and the pair.

    Raises:
        UserError: the table of the pairs is missing, or holds other pairs.
    """
    import pyarrow.parquet as pq

    pairs = corpus.cocitations(split)
    path = corpus.folder / "cocitations" / f"{split}.parquet"
    numbers: list[Ints] = []
    counts: list[Ints] = []
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS, columns=["a", "b", "contexts"]):
                column = batch.column("contexts")
                ends = [batch.column(name).to_numpy() for name in ("a", "b")]
                if not np.array_equal(np.stack(ends, 1), pairs[done : done + len(batch)]):
                    raise UserError(f"{path} holds other pairs than {split}.npy. {AGAIN}")
                done += len(batch)
                flat = column.flatten().to_numpy().astype(np.int64)
                sizes = np.diff(column.offsets.to_numpy()).astype(np.int64)
                kept = np.ones(len(flat), bool)
                stops = np.cumsum(sizes)
                for pair in np.flatnonzero(sizes > settings.contexts):
                    ids = (int(ends[0][pair]), int(ends[1][pair]))
                    draw = np.random.default_rng((settings.seed, *ids)).permutation(sizes[pair])
                    kept[stops[pair] - sizes[pair] + draw[settings.contexts :]] = False
                numbers.append(flat[kept])
                counts.append(np.minimum(sizes, settings.contexts))
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}). {AGAIN}") from error
    if done != len(pairs):
        raise UserError(f"{path} holds {done:,} pairs, and {split}.npy {len(pairs):,}. {AGAIN}")
    range_starts = np.concatenate(
        [[0], np.cumsum(np.concatenate([*counts, np.empty(0, np.int64)]))]
    )
    return ChosenContexts(
        np.concatenate([*numbers, np.empty(0, np.int64)]), range_starts.astype(np.int64)
    )


def context_texts(corpus: Corpus, numbers: Ints) -> Iterator[str]:
    """The texts of contexts, whose numbers ascend.

    Raises:
        UserError: the corpus does not hold one of them.
    """
    import pyarrow.parquet as pq

    if not len(numbers):
        return
    path = corpus.folder / "contexts.parquet"
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=TEXTS, columns=["context", "text"]):
                wanted = np.isin(batch.column("context").to_numpy(), numbers)
                done += int(wanted.sum())
                yield from batch.column("text").filter(wanted).to_pylist()
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}). {AGAIN}") from error
    if done != len(numbers):
        raise UserError(f"{path} holds {done:,} of {len(numbers):,} contexts of the pairs. {AGAIN}")


def paper_texts(corpus: Corpus, papers: Ints) -> Iterator[list[str]]:
    """The sentences of papers in ascending order; of a paper without an abstract its title."""
    wanted = iter(papers.tolist())
    paper = next(wanted, None)
    for number, (title, sentences) in enumerate(corpus.sentences()):
        if number == paper:
            yield sentences or [title or ""]
            paper = next(wanted, None)
