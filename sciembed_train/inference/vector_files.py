"""Vectors of papers in ``.npy`` files with their ids: one file, or a folder of shards.

``train embed --to vectors.npy`` writes one file, ``--to FOLDER`` shards with a manifest
(`embed_shards`). Files are memory-mapped. Importing this module imports no torch.

Shapes: ``R`` rows of all files, ``D`` width, ``U`` rows at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.inference.quantisation import Quantisation
from sciembed_train.safety.json_files import read_json

MANIFEST, PLAN = "manifest.json", "plan.json"  # of a whole folder of shards; of one being made
CHUNK = 2**22  # bytes hashed at once


def ids_path(vectors: Path) -> Path:
    """The file of paper ids beside ``<name>.npy``: ``<name>.ids.txt``, one a line."""
    return vectors.with_suffix(".ids.txt")


def quantisation_path(vectors: Path) -> Path:
    """The file beside ``<name>.npy`` that says how int8 or bits are read: ``<name>.dtype.json``."""
    return vectors.with_suffix(".dtype.json")


def read_quantisation(vectors: Path) -> Quantisation | None:
    """How the vectors of a file are stored; None where nothing beside it says so.

    Raises:
        UserError: what is beside it is malformed.
    """
    path = quantisation_path(vectors)
    return Quantisation.recorded(read_json(path), path) if path.is_file() else None


@dataclass(frozen=True)
class VectorFiles:
    """Opened files of vectors; rows are numbered through all files.

    Args:
        place: the file or folder.
        paths: the files in their order.
        arrays: memory-mapped, ``[_, D]`` each, float32 or float16, or as ``quantisation`` says.
        manifest: of a folder of shards: model, settings, input and counts; empty for other files.
    """

    place: Path
    paths: Sequence[Path]
    arrays: Sequence[NDArray[Any]]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    quantisation: Quantisation | None = None

    @classmethod
    def open(cls, place: str | Path, option: str = "--vectors") -> VectorFiles:
        """Open vectors; ``option`` named the place, for messages.

        Raises:
            UserError: there are none, a shard is missing, or they are damaged or of unlike widths.
        """
        place = Path(place)
        manifest = _read_manifest(place, option)
        paths = _paths(place, manifest, option)
        arrays: list[NDArray[Any]] = []
        quantisation = _quantisation(place, manifest, paths)
        for path in paths:
            array = _read(path, quantisation)
            if arrays and array.shape[1] != arrays[0].shape[1]:
                raise UserError(
                    f"{path} holds vectors of width {array.shape[1]}, and {paths[0]} of width "
                    f"{arrays[0].shape[1]}. Give those of one encoder."
                )
            arrays.append(array)
        for path, array, shard in zip(paths, arrays, manifest.get("shards", ()), strict=False):
            if len(array) != shard["papers"]:
                raise UserError(
                    f"{path} holds {len(array):,} vectors, and {MANIFEST} says "
                    f"{shard['papers']:,}. Remove the file and embed the papers again."
                )
        return cls(place, paths, arrays, manifest, quantisation)

    @property
    def firsts(self) -> NDArray[np.int64]:
        """The first row of each file, and ``R``."""
        return np.cumsum([0, *map(len, self.arrays)])

    def __len__(self) -> int:
        return sum(map(len, self.arrays))

    @property
    def dim(self) -> int:
        """The width of a vector, ``D``."""
        return self.arrays[0].shape[1] if self.quantisation is None else self.quantisation.dim

    @property
    def model(self) -> str | None:
        """The hash of the model whose vectors they are; None where the files do not say it."""
        return self.manifest["model"]["hash"] if self.manifest else None

    def ids(self) -> Iterator[str]:
        """The paper of each row.

        Raises:
            UserError: a file has more or fewer of them than vectors.
        """
        for path, array in zip(self.paths, self.arrays, strict=True):
            count = 0
            with ids_path(path).open(encoding="utf-8") as lines:
                for line in lines:
                    count += 1
                    yield line.rstrip("\n")
            if count != len(array):
                raise UserError(
                    f"{path} holds {len(array):,} vectors, and {ids_path(path)} {count:,} ids. "
                    "Embed the papers again."
                )

    def decoded(self, stored: NDArray[Any]) -> Float32[np.ndarray, "U D"]:
        """The vectors of some rows of an array."""
        if self.quantisation is not None:
            return self.quantisation.decode(stored)
        return np.asarray(stored, np.float32)

    def blocks(self, size: int) -> Iterator[Float32[np.ndarray, "U D"]]:
        """All vectors in their order, at most ``size`` at once and of one file."""
        for array in self.arrays:
            for start in range(0, len(array), size):
                yield self.decoded(array[start : start + size])

    def between(self, start: int, stop: int) -> Float32[np.ndarray, "U D"]:
        """The vectors of the rows ``start`` to ``stop - 1``."""
        whole = np.empty((stop - start, self.dim), np.float32)
        first = 0
        for array in self.arrays:
            low, high = max(start, first), min(stop, first + len(array))
            if low < high:
                whole[low - start : high - start] = self.decoded(array[low - first : high - first])
            first += len(array)
        return whole

    def rows(self, rows: NDArray[np.int64]) -> Float32[np.ndarray, "U D"]:
        """The vectors of some rows, in their order."""
        firsts = self.firsts
        whole = np.empty((len(rows), self.dim), np.float32)
        file = np.searchsorted(firsts, rows, side="right") - 1
        for number in np.unique(file).tolist():
            here = file == number
            whole[here] = self.decoded(self.arrays[number][rows[here] - firsts[number]])
        return whole

    def digest(self) -> str:
        """Sixteen hex digits of the files' contents; every byte is read."""
        digest = hashlib.sha256()
        for path in self.paths:
            for part in (path, ids_path(path)):
                with part.open("rb") as file:
                    while piece := file.read(CHUNK):
                        digest.update(piece)
        return digest.hexdigest()[:16]


def _read_manifest(place: Path, option: str) -> Mapping[str, Any]:
    """The manifest of a folder of shards; empty for other files."""
    if (place / PLAN).is_file() and not (place / MANIFEST).is_file():
        raise UserError(
            f"{option} {place}: not all of its shards are there. Run the command that writes it "
            "again; it does what is missing."
        )
    try:
        return json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise UserError(f"{place / MANIFEST} is damaged ({error}). Embed again.") from error


def _paths(place: Path, manifest: Mapping[str, Any], option: str) -> list[Path]:
    """The files of vectors at a place."""
    if manifest:
        paths = [place / f"{shard['part']}.npy" for shard in manifest["shards"]]
    elif place.is_dir():
        paths = sorted(place.glob("*.npy"))
        if not paths:
            raise UserError(f"{option} {place} holds no .npy file. `train embed` writes them.")
    else:
        paths = [place]
    for path in paths:
        for part in (path, ids_path(path)):
            if path.suffix != ".npy" or not part.is_file():
                raise UserError(
                    f"{option} {place}: there is no {part.name}. Give an .npy file with the ids "
                    "beside it in .ids.txt, as `train embed --to vectors.npy` writes them, or a "
                    "folder of such files."
                )
    return paths


def _quantisation(
    place: Path, manifest: Mapping[str, Any], paths: Sequence[Path]
) -> Quantisation | None:
    """How the vectors of all files are stored; None where they are floating-point numbers."""
    recorded = manifest.get("quantisation")
    if recorded is not None:
        return Quantisation.recorded(recorded, place / MANIFEST)
    found = [read_quantisation(path) for path in paths]
    if len(paths) > 1 and any(one is not None for one in found):
        raise UserError(
            f"{place} holds files of int8 or bits, each with ranges of its own. Give one of them, "
            "or a folder that `train embed` wrote as shards."
        )
    return found[0]


def _read(path: Path, quantisation: Quantisation | None) -> NDArray[Any]:
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}). Embed the papers again.") from error
    if quantisation is not None:
        quantisation.check(vectors, path)
        return vectors
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16) or not vectors.shape[1]:
        raise UserError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; expected a row of float32 or "
            "float16 for each paper."
        )
    return vectors
