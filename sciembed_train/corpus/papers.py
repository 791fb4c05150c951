"""The papers of a corpus, by integer keys.

A paper's number is its place among the ids in order of their text, so that neither the order of a
file nor its division into files changes anything that follows. Where several ids have the same
text (`text.normalise`), citations and co-cited pairs stay those of the ids that are given, but for
an encoder the ids are one paper: in triplets, for what is no negative, and for the split the first
of them stands for all.

Shapes: ``P`` papers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.id_table import UNKNOWN, IdNumbers
from sciembed_train.corpus.paper_ids import PaperIds


@dataclass(frozen=True)
class References:
    """Citations that stand in the rows of papers.

    Args:
        file: Parquet with columns ``place``, ``row`` (of the papers as they were given), ``other``
            (an id) and ``cites`` (whether the row's paper cites the other).
        number: the paper of each row ``[P]``.
    """

    file: Path
    number: NDArray[np.int32]


@dataclass
class Papers:
    """The papers of a corpus.

    Args:
        ids: ascending ``[P]``.
        number: of each id its place among them.
        usable: whether each has a text, and is not excluded ``[P]``.
        first_of_text: `first`, where not all texts differ.
        other_ids: the papers by other ids that they have, such as DOIs.
        years: of publication ``[P]``, 0 where unknown; None where no file has them.
        references: what the papers' own rows say of citations.
        titles: the `text_number` of each one's title ``[P]``.
        fields_of_study: number of papers of each; see `FieldCount.as_dict`.
    """

    ids: Sequence[str]
    number: Mapping[str, int]
    usable: NDArray[np.bool_]
    first_of_text: NDArray[np.int32] | None = None
    other_ids: Mapping[str, int] = field(default_factory=dict)
    years: NDArray[np.int16] | None = None
    references: References | None = None
    titles: NDArray[np.int64] | None = None
    fields_of_study: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def excluded(self) -> NDArray[np.bool_]:
        """Whether each is kept out of training (`exclude`) ``[P]``."""
        return np.zeros(len(self.ids), np.bool_)

    def exclude(self, excluded: NDArray[np.bool_]) -> None:
        """Keep papers out of training: they are not `usable`, as if they had no text."""
        self.excluded = excluded
        self.usable = self.usable & ~excluded

    @cached_property
    def first(self) -> NDArray[np.int32]:
        """The first paper of each one's text, itself for most, ``[P]``."""
        if self.first_of_text is None:
            return np.arange(len(self.ids), dtype=np.int32)
        return self.first_of_text

    @cached_property
    def key(self) -> Mapping[str, int]:
        """The paper that each id names for an encoder: the first one of the same text."""
        if isinstance(self.number, IdNumbers):
            return self.number.with_numbers(self.first)
        return dict(zip(self.ids, self.first.tolist(), strict=True))

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """Whether each is usable, and the first one of its text, ``[P]``."""
        return self.usable & (self.first == np.arange(len(self.ids)))

    def same_text(self, ids: set[str]) -> set[str]:
        """These ids, and the others of the same papers."""
        named = [self.first[self.number[i]] for i in ids if i in self.number]
        if not named:
            return ids
        return ids | {self.ids[i] for i in np.flatnonzero(np.isin(self.first, named)).tolist()}

    @cached_property
    def finder(self) -> PaperIds:
        """Finds papers by any spelling of their ids."""
        return PaperIds(self.number, self.other_ids)

    def as_spelled(self, ids: Iterable[str]) -> list[str]:
        """Each id as the papers spell it; an id that names no paper unchanged."""
        exact = ((i, self.number.get(i, UNKNOWN)) for i in ids)
        numbers = ((i, self.finder.find(i) if number < 0 else number) for i, number in exact)
        return [i if number < 0 else self.ids[number] for i, number in numbers]
