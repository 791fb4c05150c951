"""Which queries and candidates of a benchmark a model was trained on, by their titles.

The model's folder has the hashes of the titles that it was trained on (`training_titles`). What
ranks, or gives vectors, is wrapped, so that every benchmark is counted in one way; texts without a
title are never counted.

Shapes: ``P`` texts, ``K`` papers of one query's pool.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.encoder.io.training_titles import Titles, read_titles, trained_on
from sciembed_train.evaluation.by_format import Embedder, Record
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.embedding import Text
from sciembed_train.safety.find_model import find_folder, model_place
from sciembed_train.text.normalise import text_number

TRAINED_ON = "trained_on"  # in the settings of a results file


def titles_of_model(model: str) -> Titles | None:
    """The titles that a model was trained on; None where its folder does not say."""
    return read_titles(find_folder(model_place(model)))


class TrainedOn:
    """Counts texts whose titles a model was trained on.

    Args:
        titles: that it was trained on.
    """

    def __init__(self, titles: Titles) -> None:
        self.titles = titles
        self.queries = self.candidates = self.all_queries = self.all_candidates = 0

    def count(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> None:
        """Count some queries and candidates, by the numbers of their titles."""
        self.all_queries += len(queries)
        self.all_candidates += len(candidates)
        self.queries += int(trained_on(self.titles, queries).sum())
        self.candidates += int(trained_on(self.titles, candidates).sum())

    def describe(self) -> dict[str, Any]:
        """The counts, for the results file."""
        counts = {
            "queries": self.queries,
            "of_queries": self.all_queries,
            "candidates": self.candidates,
            "of_candidates": self.all_candidates,
        }
        return {TRAINED_ON: counts}


class WatchedSystem:
    """A system whose queries and candidates are counted: a `System` with its name and notes."""

    def __init__(self, system: System, titles: Titles) -> None:
        self.system, self.seen = system, TrainedOn(titles)
        self.name, self.by_sentence = system.name, system.by_sentence

    @property
    def notes(self) -> list[str]:
        """See `System`."""
        return self.system.notes

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return {**self.system.describe(), **self.seen.describe()}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        numbers = array("q")
        texts = _watched(search.texts, search.titles, numbers)
        yield from self.system.distances(replace(search, texts=texts))
        titles = np.frombuffer(numbers, np.int64)
        candidates = search.papers
        if search.pools is not None:  # a query is a candidate where it is in another one's pool
            candidates = candidates[np.unique(np.concatenate(list(search.pools)))]
        self.seen.count(titles[np.unique(search.queries)], titles[np.unique(candidates)])


def _watched(
    texts: Iterable[Text], titles: Sequence[str | None] | None, numbers: array[int]
) -> Iterator[Text]:
    """The texts; the number of each one's title is kept."""
    for at, text in enumerate(texts):
        numbers.append(text_number(text[0] if titles is None else titles[at]))
        yield text


class WatchedEmbedder:
    """An embedder whose queries and candidates are counted: `count` is told of them."""

    def __init__(self, embedder: Embedder, titles: Titles) -> None:
        self.embedder, self.seen = embedder, TrainedOn(titles)
        self.name, self.similarity = embedder.name, embedder.similarity

    @property
    def notes(self) -> list[str]:
        """See `Embedder`."""
        return self.embedder.notes

    def describe(self) -> dict[str, Any]:
        """See `Embedder`."""
        return {**self.embedder.describe(), **self.seen.describe()}

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """See `Embedder`."""
        return self.embedder.embed(records, format)

    def count(self, queries: Iterable[Record], candidates: Iterable[Record]) -> None:
        """Count the texts of a task; the first field of a text is its title, where it has one."""
        self.seen.count(*(_numbers(records) for records in (queries, candidates)))


def _numbers(records: Iterable[Record]) -> NDArray[np.int64]:
    return np.array([text_number(record[0]) if record else 0 for record in records], np.int64)


def told(settings: Mapping[str, Any], data: str | Path) -> tuple[str | None, str | None]:
    """The line that says that queries were trained on: as a note, or as a warning.

    It is a note of a corpus, for that is mostly the corpus of the training: its held-out papers are
    read there as papers that others cite. Both are None where no query was trained on.

    Args:
        settings: of the results file.
        data: the place of the benchmark.
    """
    seen = settings.get(TRAINED_ON)
    if not seen or not seen["queries"]:
        return None, None
    line = (
        f"{seen['queries']:,} of {seen['of_queries']:,} queries and {seen['candidates']:,} of "
        f"{seen['of_candidates']:,} candidates have titles that the model was trained on"
    )
    remedy = f"train without them: prepare with --exclude {data} (in fit --data.exclude {data})"
    if not (Path(data) / "corpus.json").is_file():
        return None, f"{line}, so the scores say too much; {remedy}."
    return (
        f"{line}. That is right for the corpus of the training: what its held-out papers cite was "
        f"kept out, not their texts. For another one the scores say too much; {remedy}."
    ), None
