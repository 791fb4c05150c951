"""The token store: every text tokenised once, memory-mapped, shared by workers and ranks.

A store is a folder: ``store.json``, ``offsets.npy`` (int64 ``[P + 1]``, where each text's body
starts in the row of all tokens) and shards ``00000.bin`` of token ids without special tokens.
Bodies are whole: the cut to a model's length, or to a span, happens when they are read, so that
one store serves every ``max_length``. Texts are papers (title and abstract) or documents.

Shapes: ``P`` texts of the store, ``K`` rows asked for, ``T`` tokens of them all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.checksums import SMALL, check_file, damaged
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

STORE_VERSION = 1
_AS_READ = InputFormat()


def has_text(title: str | None, abstract: Any) -> bool:
    """Whether a paper has anything to read: a title, an abstract or both.

    Control and zero-width characters alone are nothing, and so is ``n/a`` and its like.
    """
    if abstract is None or isinstance(abstract, str):
        abstract = [abstract]
    return bool(_AS_READ.parts([title]) or _AS_READ.parts(abstract))


def load_array(path: Path) -> NDArray[Any]:
    """Memory-map an array of a corpus; a `UserError` if it is absent, damaged, or no array."""
    check_file(path)
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} is damaged ({error}). Remove the corpus and run prepare again."
        ) from error


def check_numbers(array: NDArray[np.integer], path: Path, below: int, lowest: int = 0) -> None:
    """Check that an array of a corpus holds numbers from ``lowest`` to below ``below``.

    Raises:
        UserError: it holds another one. An array above `SMALL` bytes is not read.
    """
    if not array.size or array.nbytes > SMALL:
        return
    least, most = int(array.min()), int(array.max())
    if least < lowest or most >= below:
        wrong = least if least < lowest else most
        raise damaged(path, f"it holds the number {wrong}, and {below:,} is where they end")


class NotInStoreError(UserError, IndexError):
    """A text that was asked for is not there, as where a list of examples is damaged."""


class TokenStore:
    """The tokenised texts of a corpus under one tokenizer and, for papers, one input format.

    ``info`` is the contents of its ``store.json``.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info
        self.prefix: tuple[int, ...] = tuple(info["prefix"])
        self.suffix: tuple[int, ...] = tuple(info["suffix"])
        self._offsets: NDArray[np.int64] = load_array(folder / "offsets.npy")
        self._shard_papers: int = info["shard_papers"]
        self._dtype = np.dtype(info["dtype"])
        self._shards: dict[int, NDArray[Any]] = {}
        self._lengths: NDArray[np.int32] | None = None

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Open a store; a `UserError` if the folder is none of this version, or damaged."""
        folder = Path(folder)
        check_file(folder / "store.json")
        try:
            info = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder} is no token store ({error}). Run prepare again with --tokenizer."
            ) from error
        if info.get("version") != STORE_VERSION:
            raise UserError(
                f"{folder}: token store of version {info.get('version')}; this program reads "
                f"version {STORE_VERSION}. Run prepare again."
            )
        store = cls(folder, info)
        store._check_shards()
        return store

    def _check_shards(self) -> None:
        """Refuse shards that are not as long as the offsets say: a copy that was cut short."""
        for number, first in enumerate(range(0, len(self), self._shard_papers)):
            last = min(first + self._shard_papers, len(self))
            tokens = int(self._offsets[last] - self._offsets[first])
            path = self.folder / f"{number:05d}.bin"
            bytes_there = path.stat().st_size if path.is_file() else 0
            if bytes_there != tokens * self._dtype.itemsize:
                raise UserError(
                    f"{path} is damaged: it has {bytes_there:,} bytes, and "
                    f"{tokens * self._dtype.itemsize:,} are expected. Remove the corpus and run "
                    "prepare again."
                )

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files itself: sending the store must not copy the tokens.
        return {"folder": self.folder, "info": self.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, state["folder"], state["info"])

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each text's body, ``[P]``, without special tokens and uncut."""
        if self._lengths is None:
            lengths = np.diff(self._offsets)
            if (lengths < 0).any():
                text = int((lengths < 0).argmax())
                fault = f"text {text} ends before it begins"
                raise damaged(self.folder / "offsets.npy", fault, self.folder)
            self._lengths = lengths.astype(np.int32)
        return self._lengths

    def rows(
        self, papers: NDArray[np.integer], max_length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of texts ``[K]``, ``prefix + body + suffix`` end to end, ``[T]``, and lengths.

        Texts come in any order and repeated as wished; each body is cut so that its row has at most
        ``max_length`` tokens, special ones included.

        Raises:
            ValueError: ``max_length`` leaves nothing beside the special tokens.
            IndexError: a text is not in the store.
        """
        papers, max_body = self._known(papers), self._max_body(max_length)
        bodies = np.minimum(self._offsets[papers + 1] - self._offsets[papers], max_body)
        return self._copied(papers, self._offsets[papers], bodies)

    def slices(
        self,
        rows: NDArray[np.integer],
        starts: NDArray[np.integer],
        lengths: NDArray[np.integer],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of spans, ``prefix + body[start : start + length] + suffix``, as from `rows`.

        ``rows``, ``starts`` and ``lengths`` are ``[K]``; lengths without special tokens.

        Raises:
            IndexError: a text is not in the store, or a span not within its text.
        """
        rows = self._known(rows)
        starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
        first = self._offsets[rows]
        ends = self._offsets[rows + 1] - first
        wrong = (starts < 0) | (lengths < 0) | (starts + lengths > ends)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise IndexError(
                f"tokens {starts[i]} to {starts[i] + lengths[i]} are not within text {rows[i]}, "
                f"which has {ends[i]}"
            )
        return self._copied(rows, first + starts, lengths)

    def _max_body(self, max_length: int) -> int:
        """Tokens of a body that fit beside the special tokens."""
        special = len(self.prefix) + len(self.suffix)
        if max_length <= special:
            raise ValueError(
                f"max_length must be above the {special} special tokens; got {max_length}."
            )
        return max_length - special

    def _known(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise NotInStoreError(
                f"{self.folder} has the texts 0 to {len(self) - 1:,}, and {wrong} was asked for: "
                "the examples are of another corpus, or damaged. `train prepare --verify --to "
                "CORPUS` compares all files with their checksums."
            )
        return rows

    def _copied(
        self, texts: NDArray[np.int64], sources: NDArray[np.int64], bodies: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``bodies`` tokens from ``sources`` on, each between the special tokens: one copy."""
        shards = texts // self._shard_papers
        first = self._offsets[shards * self._shard_papers]
        last = self._offsets[np.minimum((shards + 1) * self._shard_papers, len(self))]
        outside = (bodies < 0) | (sources < first) | (sources + bodies > last)
        if outside.any():
            fault = f"text {texts[outside.argmax()]} begins or ends outside of its shard"
            raise damaged(self.folder / "offsets.npy", fault, self.folder)
        n_prefix, n_suffix = len(self.prefix), len(self.suffix)
        lengths = bodies + n_prefix + n_suffix
        ends = np.cumsum(lengths)
        targets = ends - lengths
        ids = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
        for i, token in enumerate(self.prefix):
            ids[targets + i] = token
        for i, token in enumerate(self.suffix):
            ids[ends - n_suffix + i] = token
        for number in np.unique(shards):
            rows = np.flatnonzero(shards == number)
            base = self._offsets[number * self._shard_papers]
            n = bodies[rows]
            within = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
            tokens = self._shard(int(number))[within + np.repeat(sources[rows] - base, n)]
            if tokens.size and int(tokens.max()) >= self.info["vocab_size"]:
                fault = (
                    f"it holds the token {tokens.max()}, and the vocabulary has "
                    f"{self.info['vocab_size']:,}"
                )
                raise damaged(self.folder / f"{int(number):05d}.bin", fault, self.folder)
            ids[within + np.repeat(targets[rows] + n_prefix, n)] = tokens
        return ids, lengths

    def _shard(self, number: int) -> NDArray[Any]:
        if number not in self._shards:
            path = self.folder / f"{number:05d}.bin"
            check_file(path)
            # An empty file cannot be mapped.
            empty = path.stat().st_size == 0
            self._shards[number] = (
                np.empty(0, self._dtype) if empty else np.memmap(path, self._dtype, "r")
            )
        return self._shards[number]
