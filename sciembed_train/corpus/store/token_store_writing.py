"""Writes token stores: every text is tokenised once, a batch at a time."""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.token_store import STORE_VERSION, TokenStore, has_text
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

T = TypeVar("T")


class KnownTokens(Protocol):
    """Tokens of texts that were tokenised before; see `kept_tokens.KeptTokens`."""

    def number(self, paper: Mapping[str, Any]) -> int | None:
        """The number of a paper whose tokens are known."""
        ...

    def ids(self, text: int) -> NDArray[np.int64]:
        """Its tokens."""
        ...


SHARD_PAPERS = 2**18
SHARD_DOCUMENTS = 2**14  # some hundred MB a file, for full texts
BATCH_PAPERS = 2048  # enough texts for the tokenizer's threads, little enough to hold


def write_token_store(
    folder: str | Path,
    tokenizer: TextTokenizer,
    input_format: InputFormat,
    papers: Iterable[Mapping[str, Any]],
    *,
    shard_papers: int = SHARD_PAPERS,
    batch_papers: int = BATCH_PAPERS,
    name: str = "",
    on_batch: Callable[[int], None] | None = None,
    kept: KnownTokens | None = None,
    first: int = 0,
) -> TokenStore:
    """Tokenise every paper once and return the store, written into an empty ``folder``.

    Texts are tokenised by the threads of the tokenizers library, ``batch_papers`` at a time, and
    never cut. A paper without a text gets an empty body, whatever the input format puts before it.
    Papers have ``paper``, from ``first`` on, ``title`` and ``abstract``. ``name`` says in messages
    where the tokenizer came from; ``on_batch`` gets the number of papers done. Papers that ``kept``
    knows have the tokens that they had.

    Raises:
        ValueError: ``papers`` are not in the order ``first``, ``first + 1``, ...
    """
    with StoreWriter(folder, tokenizer, shard_papers) as writer:
        for batch in writer.batches(papers, batch_papers, on_batch):
            check_order(batch, first + len(writer))
            known = [None if kept is None else kept.number(paper) for paper in batch]
            new = [paper for paper, number in zip(batch, known, strict=True) if number is None]
            bodies = _bodies(tokenizer, input_format, new)
            for number in known:
                writer.add(next(bodies) if number is None or kept is None else kept.ids(number))
    return writer.close(name, form=input_format.as_dict())


def write_document_store(
    folder: str | Path,
    tokenizer: TextTokenizer,
    texts: Iterable[str],
    *,
    shard_documents: int = SHARD_DOCUMENTS,
    name: str = "",
    on_batch: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise every document once and return the store; arguments as in `write_token_store`.

    Batches are measured in characters: memory stays bounded whatever the lengths of the texts.
    """
    with StoreWriter(folder, tokenizer, shard_documents) as writer:
        for ids in tokenizer.encode_documents(texts):
            writer.add(ids)
            if on_batch:
                on_batch(len(writer))
    return writer.close(name)


def write_task_store(
    folder: str | Path,
    tokenizer: TextTokenizer,
    input_format: InputFormat,
    texts: Iterable[Sequence[str]],
    *,
    name: str = "",
    on_batch: Callable[[int], None] | None = None,
) -> TokenStore:
    """Tokenise every text of tasks once and return the store; arguments as in `write_token_store`.

    ``texts`` are the fields of each, none of them empty, in the order of their numbers.
    """
    with StoreWriter(folder, tokenizer, SHARD_PAPERS) as writer:
        for batch in writer.batches(texts, BATCH_PAPERS, on_batch):
            joined = [input_format.join(fields, tokenizer.sep_token) for fields in batch]
            for ids in tokenizer.encode(joined):
                writer.add(ids)
    return writer.close(name, form=input_format.as_dict())


class StoreWriter:
    """Writes the bodies of texts one after the other; shards end at a fixed number of texts.

    So a text's number tells its shard.
    """

    def __init__(self, folder: str | Path, tokenizer: TextTokenizer, shard_texts: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer, self.shard_texts = tokenizer, shard_texts
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size < 2**16 else np.uint32)
        self.lengths = array("q")
        self.shard: BinaryIO | None = None

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shard is not None:
            self.shard.close()

    def __len__(self) -> int:
        return len(self.lengths)

    def batches(
        self, texts: Iterable[T], size: int, on_batch: Callable[[int], None] | None
    ) -> Iterator[list[T]]:
        """The texts ``size`` at a time; ``on_batch`` gets the number of those that are written."""
        left, done = iter(texts), 0
        while batch := list(islice(left, size)):
            yield batch
            done += len(batch)
            if on_batch:
                on_batch(done)

    def add(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Write the next text's body."""
        number, within = divmod(len(self), self.shard_texts)
        if within == 0:
            if self.shard is not None:
                self.shard.close()
            self.shard = (self.folder / f"{number:05d}.bin").open("wb", buffering=2**20)
        assert self.shard is not None
        self.shard.write(np.ascontiguousarray(ids, self.dtype).data)
        self.lengths.append(len(ids))

    def close(self, name: str, **more: Any) -> TokenStore:
        """Write the offsets and ``store.json``, and open the store."""
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(np.frombuffer(self.lengths, np.int64), out=offsets[1:])
        np.save(self.folder / "offsets.npy", offsets)
        info = {
            "version": STORE_VERSION,
            "papers": len(self),
            "tokens": int(offsets[-1]),
            "dtype": self.dtype.name,
            "shard_papers": self.shard_texts,
            "prefix": list(self.tokenizer.prefix),
            "suffix": list(self.tokenizer.suffix),
            "tokenizer": name,
            "fingerprint": self.tokenizer.fingerprint,
            "vocab_size": self.tokenizer.vocab_size,
            **more,
        }
        text = json.dumps(info, indent=1) + "\n"
        (self.folder / "store.json").write_text(text, encoding="utf-8")
        return TokenStore.open(self.folder)


def check_order(papers: Sequence[Mapping[str, Any]], first: int) -> None:
    """Check that papers are numbered in order.

    Raises:
        ValueError: they are not ``first``, ``first + 1``, ...
    """
    if [paper["paper"] for paper in papers] != list(range(first, first + len(papers))):
        raise ValueError(f"papers must be numbered in order; around {first} they are not")


def link_or_copy(source: Path, to: Path) -> None:
    """Give a file another name, or make a copy where the file system gives none."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def join_stores(shards: Sequence[Path], to: Path, name: str) -> None:
    """Make one store of neighbouring ones, each with one shard, in an empty folder.

    All but the last one are full, so the store is the one that would have been written at once.
    ``shards`` stay as they are; ``name`` says where the tokenizer came from.
    """
    to.mkdir(parents=True, exist_ok=True)
    infos = [json.loads((shard / "store.json").read_text(encoding="utf-8")) for shard in shards]
    for number, shard in enumerate(shards):
        link_or_copy(shard / "00000.bin", to / f"{number:05d}.bin")
    for path in sorted(shards[0].glob("*.npy")):
        arrays = [np.load(shard / path.name) for shard in shards]
        if path.name == "offsets.npy":
            starts = np.cumsum([0, *(array[-1] for array in arrays)])
            arrays = [
                array[number > 0 :] + start
                for number, (array, start) in enumerate(zip(arrays, starts, strict=False))
            ]
        np.save(to / path.name, np.concatenate(arrays))
    sums = {name: sum(info[name] for info in infos) for name in ("papers", "tokens")}
    text = json.dumps(infos[0] | sums | {"tokenizer": name}, indent=1) + "\n"
    (to / "store.json").write_text(text, encoding="utf-8")


def _bodies(
    tokenizer: TextTokenizer, input_format: InputFormat, papers: list[Mapping[str, Any]]
) -> Iterator[list[int]]:
    """Ids of each paper without special tokens, empty for a paper without a text."""
    readable = [has_text(p["title"], p["abstract"]) for p in papers]
    texts = [
        input_format.compose(p["title"], p["abstract"], tokenizer.sep_token)
        for p, readable_ in zip(papers, readable, strict=True)
        if readable_
    ]
    encoded = iter(tokenizer.encode(texts))
    return (next(encoded) if readable_ else [] for readable_ in readable)
