"""The token store of papers that are read sentence by sentence.

It is a `TokenStore` whose texts are composed of a title and a list of sentences, and beside it
``sentence_starts.npy`` and ``sentence_lengths.npy`` (int32 ``[S]``, in tokens of the text's body)
and ``sentence_offsets.npy`` (int64 ``[P + 1]``, the first sentence of each text). The title is read
but is no sentence. A sentence of which the tokenizer leaves nothing is not among them;
``sentences_left_out.npy`` (int64 ``[X, 2]``: text, number in the abstract) names it.

The sentences of a corpus's abstracts lie in ``abstract_sentences.parquet``: an abstract that came
as one text is cut once, and every store, and whoever numbers sentences, reads them there.

Shapes: ``P`` texts of the store, ``S`` their sentences, ``K`` rows asked for, ``X`` left out.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.citations.citing_sentences import split_sentences
from sciembed_train.corpus.store.checksums import add_checksum, check_file, damaged
from sciembed_train.corpus.store.corpus_files import ArrayWriter, ParquetRows
from sciembed_train.corpus.store.token_store import TokenStore, has_text, load_array
from sciembed_train.corpus.store.token_store_writing import BATCH_PAPERS, SHARD_PAPERS, StoreWriter
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.sentence_spans import truncate_sentences
from sciembed_train.text.tokenizer import TextTokenizer

SENTENCES = "abstract_sentences.parquet"
ROWS = 4096  # of one row group
_NUMBERS = 2**32  # above every number of a sentence

Ints = NDArray[np.int64]


class SentenceIndexedTokens(TokenStore):
    """The tokenised papers of a corpus, and where the sentences of their abstracts stand."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        super().__init__(folder, info)
        self._firsts: Ints = load_array(folder / "sentence_offsets.npy")
        self._starts: NDArray[np.int32] = load_array(folder / "sentence_starts.npy")
        self._sizes: NDArray[np.int32] = load_array(folder / "sentence_lengths.npy")
        left_out = load_array(folder / "sentences_left_out.npy").astype(np.int64)
        self._left_out: Ints = left_out[:, 0] * _NUMBERS + left_out[:, 1]

    @classmethod
    def open(cls, folder: str | Path) -> SentenceIndexedTokens:
        """Open a store; a `UserError` if the folder is none of this version, or damaged."""
        store = super().open(folder)
        assert isinstance(store, SentenceIndexedTokens)
        counts = len(store._firsts) - 1, len(store._starts), len(store._sizes)
        sentences = int(store._firsts[-1]) if len(store._firsts) else 0
        if counts != (len(store), sentences, sentences):
            raise UserError(
                f"{folder} is damaged: it has {counts[1]:,} starts and {counts[2]:,} lengths of "
                f"sentences of {counts[0]:,} papers, and {sentences:,} sentences of "
                f"{len(store):,} papers are expected. Remove the corpus and run prepare again."
            )
        return store

    @property
    def sentence_counts(self) -> Ints:
        """Sentences of each text before any cut, ``[P]``; 0 where there is no abstract."""
        return np.diff(self._firsts)

    def sentences(self, papers: NDArray[np.integer], max_length: int) -> tuple[Ints, Ints, Ints]:
        """Where the sentences of texts ``[K]`` stand in their rows of `rows`.

        A text without a sentence, or without one after the cut, is one sentence: its body.
        Returns the first token of each sentence, counted from the row's first, and the tokens of
        each, text after text; and the number of sentences of each text, ``[K]``, at least 1.
        Errors as of `rows`.
        """
        papers, max_body = self._known(papers), self._max_body(max_length)
        counts = self._firsts[papers + 1] - self._firsts[papers]
        if len(counts) and (
            counts.min() < 0 or (self._firsts[papers + 1] > len(self._starts)).any()
        ):
            fault = "a text's sentences end before they begin, or there are too few"
            raise damaged(self.folder / "sentence_offsets.npy", fault, self.folder)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        where = within + np.repeat(self._firsts[papers], counts)
        bodies = self._offsets[papers + 1] - self._offsets[papers]
        starts, sizes, counts = truncate_sentences(
            self._starts[where], self._sizes[where], counts, bodies, max_body
        )
        # A text without a token of its own is its special tokens.
        bare = sizes == 0
        starts = np.where(bare, 0, starts + len(self.prefix))
        return starts, np.where(bare, len(self.prefix) + len(self.suffix), sizes), counts

    def numbered(self, papers: NDArray[np.integer], numbers: NDArray[np.integer]) -> Ints:
        """The places in this store of a sentence of each paper, numbered in its abstract, ``[K]``.

        They differ where a sentence before it was left out.
        """
        keys = np.asarray(papers, np.int64) * _NUMBERS
        before = np.searchsorted(self._left_out, keys + numbers)
        return np.asarray(numbers, np.int64) - (before - np.searchsorted(self._left_out, keys))


def abstract_sentences(abstract: str | Sequence[str] | None) -> list[str]:
    """The sentences of an abstract, none of them blank; a text is cut by `split_sentences`.

    Raises:
        UserError: ``syntok`` is needed and not installed.
    """
    if abstract is None or isinstance(abstract, str):
        text = " ".join((abstract or "").split())
        return split_sentences(text) if text else []
    return [s.strip() for s in abstract if s and s.strip()]


def write_sentences(
    folder: Path,
    papers: Iterable[Mapping[str, Any]],
    on_batch: Callable[[int], None] | None = None,
) -> None:
    """Write ``abstract_sentences.parquet`` into a corpus folder, whole or not at all.

    ``papers`` have an ``abstract`` and come in order; ``on_batch`` gets the number of papers done.
    """
    import pyarrow as pa

    partial = folder / f".{SENTENCES}.{os.getpid()}"
    done = 0
    try:
        with ParquetRows(partial, {"sentences": pa.list_(pa.string())}, ROWS) as writer:
            for done, paper in enumerate(papers, 1):
                writer.add(abstract_sentences(paper["abstract"]))
                if on_batch and done % ROWS == 0:
                    on_batch(done)
        if on_batch:
            on_batch(done)
        partial.replace(folder / SENTENCES)
    finally:
        partial.unlink(missing_ok=True)
    add_checksum(folder / SENTENCES)


def read_sentences(folder: Path) -> Iterator[tuple[str | None, list[str]]]:
    """Title and sentences of every paper of a corpus in order, some thousands in memory."""
    import pyarrow.parquet as pq

    for name in ("papers.parquet", SENTENCES):
        check_file(folder / name)
    with (
        pq.ParquetFile(folder / "papers.parquet") as papers,
        pq.ParquetFile(folder / SENTENCES) as file,
    ):
        if papers.metadata.num_rows != file.metadata.num_rows:
            raise UserError(
                f"{folder / SENTENCES} is damaged: it has {file.metadata.num_rows:,} papers, and "
                f"{papers.metadata.num_rows:,} are expected. Remove it and run prepare again."
            )
        # The batches of two files need not end at the same rows.
        columns = [
            (value for batch in batches for value in batch.column(0).to_pylist())
            for batches in (
                papers.iter_batches(batch_size=ROWS, columns=["title"]),
                file.iter_batches(batch_size=ROWS),
            )
        ]
        yield from zip(*columns, strict=True)


def write_sentence_store(
    folder: str | Path,
    tokenizer: TextTokenizer,
    input_format: InputFormat,
    papers: Iterable[tuple[str | None, Sequence[str]]],
    *,
    shard_papers: int = SHARD_PAPERS,
    batch_papers: int = BATCH_PAPERS,
    name: str = "",
    on_batch: Callable[[int], None] | None = None,
) -> SentenceIndexedTokens:
    """Tokenise every paper once and return the store; arguments as in `write_token_store`.

    ``papers`` are titles and sentences in the order of their numbers. The ids of a paper are those
    of `InputFormat.compose` of both; a paper without a text gets an empty body.
    """
    counts, left_out = array("q"), array("q")
    with (
        StoreWriter(folder, tokenizer, shard_papers) as writer,
        closing(ArrayWriter(writer.folder / "sentence_starts.npy", "<i4")) as starts,
        closing(ArrayWriter(writer.folder / "sentence_lengths.npy", "<i4")) as lengths,
    ):
        for batch in writer.batches(papers, batch_papers, on_batch):
            readable = [has_text(title, sentences) for title, sentences in batch]
            composed = [
                input_format.compose_sentences(title, sentences, tokenizer.sep_token)
                for (title, sentences), readable_ in zip(batch, readable, strict=True)
                if readable_
            ]
            encoded = iter(
                tokenizer.encode_sentences([text for text, _ in composed], [s for _, s in composed])
            )
            for readable_ in readable:
                body = next(encoded) if readable_ else None
                left_out.extend(
                    n for i in (body.left_out if body else ()) for n in (len(writer), i)
                )
                writer.add(body.ids if body else [])
                starts.add(body.starts if body else [])
                lengths.add(body.lengths if body else [])
                counts.append(len(body.starts) if body else 0)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.frombuffer(counts, np.int64), out=offsets[1:])
    np.save(writer.folder / "sentence_offsets.npy", offsets)
    pairs = np.frombuffer(left_out, np.int64).reshape(-1, 2)
    np.save(writer.folder / "sentences_left_out.npy", pairs)
    writer.close(name, form=input_format.as_dict(), sentences=int(offsets[-1]))
    return SentenceIndexedTokens.open(writer.folder)
