"""Vectors of a corpus's papers in files, read some at a time and as unit vectors.

Shapes: ``R`` rows of all files, ``P`` papers of the corpus, ``D`` width, ``U`` rows asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.inference.vector_files import VectorFiles

READ = 2**14  # rows read at once


@dataclass(frozen=True)
class StoredVectors:
    """Opened files of vectors; rows are numbered through all files.

    Args:
        vectors: the files.
        paper: the paper of each row ``[R]``; -1 for papers that the corpus does not have.
        row: the row of each paper ``[P]``; -1 where there is none.
        scale: what makes each row a unit vector ``[R]``; 1 for a row of zeros.
        digest: sixteen hex digits of the files' contents.
    """

    vectors: VectorFiles
    paper: NDArray[np.int64]
    row: NDArray[np.int64]
    scale: NDArray[np.float32]
    digest: str

    @classmethod
    def open(
        cls, place: str | Path, paper_ids: Sequence[str], option: str = "--vectors"
    ) -> StoredVectors:
        """Open vectors, and find the paper of each by its id.

        Args:
            place: an ``.npy`` file with its ids in ``.ids.txt``, or a folder of such files.
            paper_ids: the corpus's papers ``[P]``.
            option: what named the place, for messages.

        Raises:
            UserError: there are none, they are damaged, not finite or of unlike widths, or an id
                comes twice.
        """
        vectors = VectorFiles.open(place, option)
        known = {paper_id: paper for paper, paper_id in enumerate(paper_ids)}
        papers = array("q", (known.get(paper_id, -1) for paper_id in vectors.ids()))
        paper = np.frombuffer(papers, np.int64)
        row = np.full(len(paper_ids), -1, np.int64)
        rows = np.flatnonzero(paper >= 0)
        row[paper[rows]] = rows
        if len(rows) != (row >= 0).sum():
            counts = np.bincount(paper[rows], minlength=len(paper_ids))
            twice = paper_ids[int(np.flatnonzero(counts > 1)[0])]
            raise UserError(f"{place} holds two vectors of the paper {twice!r}. Give one each.")
        parts = zip(vectors.arrays, vectors.paths, strict=True)
        scale = np.concatenate([_scales(vectors, rows, path) for rows, path in parts])
        return cls(vectors, paper, row, scale, vectors.digest())

    def __len__(self) -> int:
        return len(self.paper)

    @property
    def dim(self) -> int:
        """The width of a vector, ``D``."""
        return self.vectors.dim

    def tile(self, start: int, stop: int) -> Float32[np.ndarray, "U D"]:
        """The unit vectors of the rows ``start`` to ``stop - 1``."""
        whole = self.vectors.between(start, stop)
        whole *= self.scale[start:stop, None]
        return whole

    def rows(self, rows: NDArray[np.int64]) -> Float32[np.ndarray, "U D"]:
        """The unit vectors of some rows, in their order."""
        whole = self.vectors.rows(rows)
        whole *= self.scale[rows, None]
        return whole


def _scales(files: VectorFiles, vectors: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """One over each vector's length, 1 for zeros."""
    scales = np.ones(len(vectors), np.float32)
    for start in range(0, len(vectors), READ):
        lengths = np.linalg.norm(
            files.decoded(vectors[start : start + READ]).astype(np.float64), axis=1
        )
        if not np.isfinite(lengths).all():
            raise UserError(f"{path} holds vectors that are not finite. Embed the papers again.")
        scales[start : start + READ] = 1 / np.where(lengths > 0, lengths, 1)
    return scales
