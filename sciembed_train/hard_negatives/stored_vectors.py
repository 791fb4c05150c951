"""Vectors of a corpus's papers in files, read some at a time and as unit vectors.

Shapes: ``R`` rows of all files, ``P`` papers of the corpus, ``D`` width, ``U`` rows asked for.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.inference.embed_file import ids_path

READ = 2**14  # rows read at once
CHUNK = 2**22  # bytes hashed at once


@dataclass(frozen=True)
class StoredVectors:
    """Opened files of vectors; rows are numbered through all files.

    Args:
        files: memory-mapped, ``[_, D]`` each, float32 or float16.
        first: the first row of each file, and ``R``.
        paper: the paper of each row ``[R]``; -1 for papers that the corpus does not have.
        row: the row of each paper ``[P]``; -1 where there is none.
        scale: what makes each row a unit vector ``[R]``; 1 for a row of zeros.
        digest: sixteen hex digits of the files' contents.
    """

    files: Sequence[NDArray[np.floating]]
    first: NDArray[np.int64]
    paper: NDArray[np.int64]
    row: NDArray[np.int64]
    scale: NDArray[np.float32]
    digest: str

    @classmethod
    def open(cls, place: str | Path, paper_ids: Sequence[str]) -> StoredVectors:
        """Open vectors, and find the paper of each by its id.

        Args:
            place: an ``.npy`` file with its ids in ``.ids.txt``, or a folder of such files.
            paper_ids: the corpus's papers ``[P]``.

        Raises:
            UserError: there are none, they are damaged, not finite or of unlike widths, or an id
                comes twice.
        """
        paths = _paths(Path(place))
        known = {paper_id: paper for paper, paper_id in enumerate(paper_ids)}
        files: list[NDArray[np.floating]] = []
        papers = array("q")
        digest = hashlib.sha256()
        for path in paths:
            vectors = _read(path)
            if files and vectors.shape[1] != files[0].shape[1]:
                raise UserError(
                    f"{path} holds vectors of width {vectors.shape[1]}, and {paths[0]} of width "
                    f"{files[0].shape[1]}. Give those of one encoder."
                )
            before = len(papers)
            with ids_path(path).open(encoding="utf-8") as lines:
                papers.extend(known.get(line.rstrip("\n"), -1) for line in lines)
            if len(papers) - before != len(vectors):
                raise UserError(
                    f"{path} holds {len(vectors):,} vectors, and {ids_path(path)} "
                    f"{len(papers) - before:,} ids. Embed the papers again."
                )
            files.append(vectors)
            for part in (path, ids_path(path)):
                _add(digest, part)
        paper = np.frombuffer(papers, np.int64)
        row = np.full(len(paper_ids), -1, np.int64)
        rows = np.flatnonzero(paper >= 0)
        row[paper[rows]] = rows
        if len(rows) != (row >= 0).sum():
            counts = np.bincount(paper[rows], minlength=len(paper_ids))
            twice = paper_ids[int(np.flatnonzero(counts > 1)[0])]
            raise UserError(f"{place} holds two vectors of the paper {twice!r}. Give one each.")
        first = np.cumsum([0, *map(len, files)])
        scale = np.concatenate(
            [_scales(vectors, path) for vectors, path in zip(files, paths, strict=True)]
        )
        return cls(files, first, paper, row, scale, digest.hexdigest()[:16])

    def __len__(self) -> int:
        return len(self.paper)

    @property
    def dim(self) -> int:
        """The width of a vector, ``D``."""
        return self.files[0].shape[1]

    def tile(self, start: int, stop: int) -> Float32[np.ndarray, "U D"]:
        """The unit vectors of the rows ``start`` to ``stop - 1``."""
        whole = np.empty((stop - start, self.dim), np.float32)
        for number, vectors in enumerate(self.files):
            low, high = (max(at, self.first[number]) for at in (start, stop))
            high = min(high, self.first[number + 1])
            if low < high:
                part = vectors[low - self.first[number] : high - self.first[number]]
                whole[low - start : high - start] = part
        whole *= self.scale[start:stop, None]
        return whole

    def rows(self, rows: NDArray[np.int64]) -> Float32[np.ndarray, "U D"]:
        """The unit vectors of some rows, in their order."""
        whole = np.empty((len(rows), self.dim), np.float32)
        file = np.searchsorted(self.first, rows, side="right") - 1
        for number, vectors in enumerate(self.files):
            here = np.flatnonzero(file == number)
            whole[here] = vectors[rows[here] - self.first[number]]
        whole *= self.scale[rows, None]
        return whole


def _paths(place: Path) -> list[Path]:
    """The files of vectors at a place."""
    if place.is_dir():
        paths = sorted(place.glob("*.npy"))
        if not paths:
            raise UserError(f"--vectors {place} holds no .npy file. `train embed` writes them.")
    else:
        paths = [place]
    for path in paths:
        for part in (path, ids_path(path)):
            if path.suffix != ".npy" or not part.is_file():
                raise UserError(
                    f"--vectors {place}: there is no {part.name}. Give an .npy file with the ids "
                    "beside it in .ids.txt, as `train embed --to vectors.npy` writes them, or a "
                    "folder of such files."
                )
    return paths


def _read(path: Path) -> NDArray[np.floating]:
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}). Embed the papers again.") from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16) or not vectors.shape[1]:
        raise UserError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; expected a row of float32 or "
            "float16 for each paper."
        )
    return vectors


def _scales(vectors: NDArray[np.floating], path: Path) -> NDArray[np.float32]:
    """One over each vector's length, 1 for zeros."""
    scales = np.ones(len(vectors), np.float32)
    for start in range(0, len(vectors), READ):
        lengths = np.linalg.norm(vectors[start : start + READ].astype(np.float64), axis=1)
        if not np.isfinite(lengths).all():
            raise UserError(f"{path} holds vectors that are not finite. Embed the papers again.")
        scales[start : start + READ] = 1 / np.where(lengths > 0, lengths, 1)
    return scales


def _add(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
