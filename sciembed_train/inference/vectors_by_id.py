"""Stored vectors, found by their ids: those that `embed` writes, and those of others.

Nothing is held in memory but the ids: ``.npy`` files are memory-mapped (`VectorFiles`), rows of
other files are written to a temporary file that is.

Shapes: ``V`` vectors of the file, ``U`` of them at a time, ``D`` width.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines, sha256
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import read_id, spell
from sciembed_train.errors import UserError, one_line, why_no_file
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.quantisation import Quantisation
from sciembed_train.inference.vector_files import (
    VectorFiles,
    ids_path,
    quantisation_path,
    read_quantisation,
)

# A row's id and vector stand under the first of these fields that it has.
ID_FIELDS = (
    *("paper_id", "query_id", "doc_id", "corpus_id", "corpusid", "paperId"),
    *("id", "_id"),
)
VECTOR_FIELDS = ("embedding", "vector", "embeddings")
SENTENCES = "sentence_embeddings"  # the field that `embed` writes for a multi-vector model
READ = 2**14  # vectors that are read at once
FORM = "a row is {paper_id: ..., embedding: [numbers]}"


class VectorsById:
    """The vectors of a file or of a folder of shards, one for each id.

    Args:
        path: ``.npy`` with the ids in ``<name>.ids.txt`` or ``<name>.txt``, one a line; rows with
            an id and a list of numbers, in any format of `Table`; or a folder that `embed` wrote.
        option: named it, for messages.

    Raises:
        UserError: there is no such file, it is malformed, vectors have unlike widths or are not
            finite, or an id comes twice.
        RunError: there is no room for a temporary file.
    """

    def __init__(self, path: str | Path, option: str = "--embeddings") -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self._files = VectorFiles.open(self.path, option)
            self._position = _position_of(self._files)
            self._refuse_not_finite()
            return
        if not self.path.is_file():
            raise UserError(f"{self.path}: {why_no_file(self.path)} ({option}).")
        if self.path.suffix == ".npy":
            quantisation = read_quantisation(self.path)
            array = _read_array(self.path, quantisation)
            self._files = VectorFiles(self.path, [self.path], [array], quantisation=quantisation)
            self._position = _read_ids(self.path, len(array))
            self._refuse_not_finite()
        else:
            remedy = "It is a copy of the file's vectors. Make room, or set TMPDIR to another disk."
            with told_full_disk(Path(tempfile.gettempdir()), remedy):
                array, self._position = _read_table(self.path)
            self._files = VectorFiles(self.path, [self.path], [array])

    def __len__(self) -> int:
        return len(self._files)

    @property
    def dim(self) -> int:
        """The width of a vector, ``D``."""
        return self._files.dim

    @property
    def similarity(self) -> str | None:
        """Their model's similarity; None where the files do not say it."""
        return self._files.manifest.get("similarity")

    @property
    def first_id(self) -> str:
        """The id of the first vector."""
        return next(iter(self._position))

    def __contains__(self, name: str) -> bool:
        return name in self._position

    def positions(self, ids: Sequence[str]) -> Int64[np.ndarray, " U"]:
        """The rows of ids, -1 where there is none."""
        rows = array("q", (self._position.get(name, -1) for name in ids))
        return np.frombuffer(rows, np.int64) if rows else np.empty(0, np.int64)

    def rows(self, positions: Int64[np.ndarray, " U"]) -> Float32[np.ndarray, "U D"]:
        """A copy of the vectors of some rows."""
        return self._files.rows(positions)

    def _refuse_not_finite(self) -> None:
        for start in range(0, len(self), READ):
            with np.errstate(over="ignore"):  # of float64, refused below
                part = self._files.between(start, min(start + READ, len(self)))
            if not np.isfinite(part).all():
                row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
                name = next(name for name, at in self._position.items() if at == row)
                raise UserError(f"{self.path}: row {row + 1:,} ({name}): {_NOT_FINITE}")


@dataclass(frozen=True)
class VectorRows:
    """Some vectors of a file in an order, read a part at a time.

    Args:
        file: of the vectors.
        positions: their rows.
        unit: divide each by its length; a vector of zeros stays.
    """

    file: VectorsById
    positions: NDArray[np.int64]
    unit: bool = False

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        import torch

        from sciembed_train.losses.similarity import unit

        rows = self.file.rows(self.positions[part])
        if not self.unit:
            return rows
        return unit(torch.from_numpy(rows).double()).float().numpy()


def vectors_hash(path: str | Path) -> str:
    """Sixteen hex digits of a file of vectors and of its ids.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return VectorFiles.open(path, "--embeddings").digest()
    if not path.is_file():
        raise UserError(f"{path}: {why_no_file(path)} (--embeddings).")
    files = [path, _ids_file(path)] if path.suffix == ".npy" else [path]
    files += [
        file for file in [quantisation_path(path)] if path.suffix == ".npy" and file.is_file()
    ]
    return hashlib.sha256(" ".join(map(sha256, files)).encode()).hexdigest()[:16]


_NOT_FINITE = (
    "the vector has numbers that are not finite in float32, so that nothing can be compared with "
    "it. Embed this text again, or take the row out."
)


def _read_array(path: Path, quantisation: Quantisation | None) -> NDArray[Any]:
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: this is not an .npy file ({one_line(error)}).") from error
    if quantisation is not None and isinstance(rows, np.ndarray) and rows.size:
        quantisation.check(rows, path)
        return rows
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or rows.dtype.kind != "f"
        or not rows.size
    ):
        what = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else "files"
        raise UserError(f"{path}: holds {what}; expected a row of floating-point numbers an id.")
    return rows


def _ids_file(path: Path) -> Path:
    """The file of ids beside an array.

    Raises:
        UserError: there is none.
    """
    names = (ids_path(path), path.with_suffix(".txt"))
    for name in names:
        if name.is_file():
            return name
    raise UserError(
        f"{path}: there is no {names[0].name} and no {names[1].name} beside it; expected the ids "
        "of the rows there, one a line."
    )


def _read_ids(path: Path, count: int) -> dict[str, int]:
    """The row of each id."""
    file = _ids_file(path)
    position: dict[str, int] = {}
    for row, (number, line) in enumerate(read_lines(file, empty=True)):
        try:
            if isinstance(line, BadRow):
                raise line
            _add(position, read_id(line, "id"), row)
        except BadRow as bad:
            raise UserError(f"{file}:{number}: {bad.message} Correct the line.") from bad
    if len(position) != count:
        raise UserError(f"{path}: holds {count:,} vectors, and {file.name} {len(position):,} ids.")
    return position


def _position_of(files: VectorFiles) -> dict[str, int]:
    """The row of each id of a folder of shards."""
    position: dict[str, int] = {}
    try:
        for row, name in enumerate(files.ids()):
            _add(position, read_id(name, "id"), row)
    except BadRow as bad:
        raise UserError(f"{files.place}: {bad.message}") from bad
    return position


def _add(position: dict[str, int], name: str, row: int) -> None:
    if name in position:
        raise BadRow(
            "an id twice", f"the id {name} was given before, and has two vectors; give it one."
        )
    position[name] = row


def _read_table(path: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    """The vectors of a table, in a temporary file that nobody else sees, and the row of each id."""
    position: dict[str, int] = {}
    width = 0
    first = ""
    with tempfile.TemporaryFile() as file:
        for where, row in _table_rows(path):
            try:
                name, vector = _read_row(row)
                _add(position, name, len(position))
            except BadRow as bad:
                raise UserError(f"{where}: {bad.message}") from bad
            if not width:
                width, first = len(vector), where
            elif len(vector) != width:
                raise UserError(
                    f"{where}: the vector of {name} has {len(vector)} numbers, and that of "
                    f"{first} has {width}. Give vectors of one encoder."
                )
            file.write(vector.data)
        if not position:
            raise UserError(f"{path}: holds no row; {FORM}.")
        file.flush()
        return np.memmap(file, np.float32, "r", shape=(len(position), width)), position


def _table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    table = Table(path, "vectors")
    for at, row in table.rows():
        if isinstance(row, BadRow):
            raise UserError(f"{table.where(at)}: {row.message}")
        yield table.where(at), row


def _read_row(row: Mapping[str, Any]) -> tuple[str, NDArray[np.float32]]:
    """The id and the vector of a row.

    Raises:
        BadRow: it has none, or one that is not finite.
    """
    id_field = next((name for name in ID_FIELDS if row.get(name) is not None), None)
    field = next((name for name in VECTOR_FIELDS if row.get(name) is not None), None)
    if SENTENCES in row and field is None:
        raise BadRow(
            "vectors of sentences",
            "this has a vector for each sentence; expected one a paper. Embed with --pooling mean "
            "or cls.",
        )
    if id_field is None or field is None:
        missing = f"no id ({', '.join(ID_FIELDS)})" if id_field is None else "no vector"
        names = ", ".join(list(row)[:8])
        raise BadRow(missing, f"there is {missing}: {FORM}; this one has the fields {names}.")
    name, value = read_id(row[id_field], id_field), row[field]
    if isinstance(value, Mapping):  # Semantic Scholar's API: {"model": ..., "vector": [...]}
        value = value.get("vector")
    if isinstance(value, str):  # its datasets: a list as text
        with suppress(ValueError):  # refused below, with the text
            value = json.loads(value)
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRow("no vector", _no_vector(name, field, value)) from error
    if vector.ndim != 1 or not vector.size or isinstance(value, str):
        raise BadRow("no vector", _no_vector(name, field, value))
    if not np.isfinite(vector).all():
        raise BadRow("not finite", f"{name}: {_NOT_FINITE}")
    return name, np.ascontiguousarray(vector)


def _no_vector(name: str, field: str, value: Any) -> str:
    return f"`{field}` of {name} is {spell(value)}; expected a list of numbers."
