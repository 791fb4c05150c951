"""Reuses the tokens of an earlier corpus for the papers that are the same in a new one.

Papers of both are in the order of their ids, so they are compared side by side; one paper of each
is in memory. A paper is the same where its id, title and abstract are, letter by letter.

Shapes: ``T`` tokens of a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TokenKind
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.errors import UserError

Store = TypeVar("Store", bound=TokenStore)
_SAME = ("paper_id", "title", "abstract")


class KeptTokens(Generic[Store]):
    """Finds the papers of an earlier corpus that a new one has too.

    Args:
        store: of the earlier corpus.
        papers: its papers, in the order of their ids.
    """

    def __init__(self, store: Store, papers: Iterator[Mapping[str, Any]]) -> None:
        self.store, self.count = store, 0
        self._papers = papers
        self._next: Mapping[str, Any] | None = next(papers, None)

    @classmethod
    def of(
        cls, earlier: Corpus | None, key: str, kind: TokenKind[Store], since: str = ""
    ) -> KeptTokens | None:
        """The kept tokens of a corpus under one tokenizer; None where it has none that can be read.

        `number` must not be called for papers before the id ``since``.
        """
        if earlier is None or not earlier.n_papers or not earlier.has_tokens(key, kind):
            return None
        try:
            store = kind.open(earlier.folder, earlier.info, key)
        except UserError:  # it is damaged, and about to be replaced
            return None
        path = earlier.folder / "papers.parquet"
        return cls(store, read_papers(path, first=_row_before(path, since)))

    def number(self, paper: Mapping[str, Any]) -> int | None:
        """The number that a paper has in the earlier corpus; None if it is not the same there.

        Papers have to be asked for in the order of their ids.
        """
        while self._next is not None and self._next["paper_id"] < paper["paper_id"]:
            self._next = next(self._papers, None)
        earlier = self._next
        if earlier is None or any(earlier[name] != paper[name] for name in _SAME):
            return None
        self.count += 1
        return earlier["paper"]

    def ids(self, text: int) -> NDArray[np.int64]:
        """The tokens of a text of the earlier store without special ones, ``[T]``."""
        rows = np.array([text])
        zero = np.zeros(1, np.int64)
        tokens, lengths = self.store.slices(rows, zero, self.store.lengths[rows])
        first = len(self.store.prefix)
        return tokens[first : int(lengths[0]) - len(self.store.suffix)]


def _row_before(path: Path, paper_id: str) -> int:
    """The first row of the row group that an id is in, of papers in the order of their ids."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        column, row, start = file.schema_arrow.get_field_index("paper_id"), 0, 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            statistics = group.column(column).statistics
            if statistics is None or statistics.min is None or statistics.min > paper_id:
                break
            row, start = row + group.num_rows, row
    return start
