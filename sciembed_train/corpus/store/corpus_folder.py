"""A corpus folder: what `prepare` writes and everything later reads.

Reading for training needs numpy alone: ``triplets/<split>.npy``, ``queries/<split>.npy``,
``cocitations/<split>.npy``, ``sentence_pairs/<split>.npy``, ``documents/<split>.npy``,
``citations.npy`` and the token stores are memory-mapped arrays. The Parquet files beside them
(papers, citations, triplets, co-citations, contexts, sentences, documents) are for people and other
programs.

Shapes: ``P`` papers, ``E`` citations, ``N`` triplets or pairs, ``K`` known pairs, ``n`` documents
of a split, ``S`` citing sentences, ``C`` papers cited by them all.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.sentence_store import SENTENCES, SentenceTokens, read_sentences
from sciembed_train.corpus.store.token_store import TokenStore, load_array
from sciembed_train.corpus.tasks.task_store import TaskFolder
from sciembed_train.errors import UserError
from sciembed_train.text.tokenizer import TextTokenizer

CORPUS_VERSION: int = 1
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SENTENCE_PAIRS, SENTENCE_PAIR_TOKENS = "sentence_pairs", "sentence_pair_tokens"  # folders


class Corpus:
    """A prepared corpus, opened for reading; papers are the integers 0 to ``n_papers - 1``.

    Args:
        folder: where it lies.
        info: the contents of ``corpus.json``.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus.

        Raises:
            UserError: the folder is no corpus, or one of another version.
        """
        folder = Path(folder)
        path = folder / "corpus.json"
        if not path.is_file():
            there = "has no corpus.json" if folder.is_dir() else "does not exist"
            if folder.is_file():
                raise UserError(
                    f"{folder} is a file, and a corpus is a folder that `train prepare` makes. "
                    "Files of your own are given as --data.papers and --data.citations to fit and "
                    "show, as --papers and --citations to prepare."
                )
            raise UserError(
                f"{folder} is no corpus: it {there}. Make one with "
                f"`train prepare --papers F --citations F --to {folder}`, or from full texts with "
                "--fulltexts F."
            )
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            version = info["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}). Run prepare again.") from error
        if version != CORPUS_VERSION:
            raise UserError(
                f"{folder} is a corpus of version {version}; this program reads version "
                f"{CORPUS_VERSION}. Run prepare again from the source files."
            )
        return cls(folder, info)

    def __repr__(self) -> str:
        held = f"{self.n_papers} papers, {self.n_documents} documents"
        return f"Corpus({str(self.folder)!r}, {held})"

    @property
    def n_papers(self) -> int:
        """Number of papers, ``P``."""
        return self.info["counts"]["papers"]

    def triplets(self, split: Split) -> NDArray[np.int32]:
        """Mined triplets ``[N, 3]``: query, positive, negative.

        Raises:
            UserError: nothing was mined when the corpus was prepared.
        """
        return self._array(f"triplets/{split}.npy", "triplets")

    def hard(self, split: Split) -> NDArray[np.bool_]:
        """Whether each triplet's negative is a hard one, ``[N]``.

        Raises:
            UserError: nothing was mined when the corpus was prepared.
        """
        return self._array(f"triplets/{split}.hard.npy", "triplets")

    def queries(self, split: Split) -> NDArray[np.int32]:
        """The query papers of a split (papers with a text that cite one), ascending.

        Raises:
            UserError: the corpus was prepared without citations.
        """
        return self._array(f"queries/{split}.npy", "query papers")

    def citations(self) -> NDArray[np.int32]:
        """Who cites whom, ``[E, 2]``: citing, cited; distinct and ascending.

        Raises:
            UserError: the corpus was prepared without citations.
        """
        return self._array("citations.npy", "citations")

    def cocitations(self, split: Split) -> NDArray[np.int32]:
        """Pairs of papers that are cited together, ``[N, 2]``: a < b, distinct and ascending.

        Training pairs have two training papers, test pairs a test paper, dev pairs a dev paper
        and no test paper. Which of a pair is the query is not said here.

        Raises:
            UserError: no co-cited pairs were mined when the corpus was prepared.
        """
        return self._cocited(f"{split}.npy")

    def cocitation_counts(self, split: Split) -> NDArray[np.int32]:
        """How often each pair of `cocitations` is cited together, ``[N]``.

        Contexts, counts given ready and citing papers are added up, whichever were given.

        Raises:
            UserError: no co-cited pairs were mined when the corpus was prepared.
        """
        return self._cocited(f"{split}.count.npy")

    def known_cocitations(self) -> NDArray[np.int64]:
        """Every pair known to be co-cited, as ``a * n_papers + b`` with a < b, ``[K]``, ascending.

        Pairs of every split, and those that filters kept out of the splits: no negatives.

        Raises:
            UserError: no co-cited pairs were mined when the corpus was prepared.
        """
        return self._cocited("known.npy")

    def _cocited(self, name: str) -> NDArray[Any]:
        path = self.folder / "cocitations" / name
        if not path.is_file():
            raise UserError(
                f"{self.folder} holds no co-cited papers (cocitations/{name} is not there). Run "
                "prepare with --papers and one of --contexts F (citing sentences), --cocitations F "
                "(counted pairs), or --citations F --cocitations-from references."
            )
        return load_array(path)

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Every context that was kept in order: ``context``, ``text``, ``papers`` of its group.

        Raises:
            UserError: the corpus was prepared without citing sentences.
        """
        columns = ["context", "text", "papers"]
        yield from _rows(self._parquet("contexts"), columns)

    def sentence_pairs(self, split: Split) -> NDArray[np.int32]:
        """Pairs of sentences that cite the same, ``[N, 2]``: a < b, distinct and ascending.

        A test pair has a sentence that cites a test paper, a dev pair one that cites a dev paper
        and none that cites a test paper. Which of a pair is the query is not said here.

        Raises:
            UserError: no sentence pairs were mined when the corpus was prepared.
        """
        return self._of_sentences(f"{split}.npy")

    def sentence_papers(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The papers that the sentences of pairs cite, in any row of the same text.

        Returns:
            The papers of every sentence end to end, ``[C]``, and ``[S + 1]`` where each begins.

        Raises:
            UserError: no sentence pairs were mined when the corpus was prepared.
        """
        return self._of_sentences("papers.npy"), self._of_sentences("papers_offsets.npy")

    def citing_sentences(self) -> Iterator[str]:
        """The texts of the sentences of pairs, in the order of their numbers.

        Raises:
            UserError: no sentence pairs were mined when the corpus was prepared.
        """
        self._of_sentences("papers_offsets.npy")
        path = self.folder / SENTENCE_PAIRS / "sentences.parquet"
        for row in _rows(path, ["text"]):
            yield row["text"]

    @property
    def n_citing_sentences(self) -> int:
        """Number of sentences that pairs are of, ``S``; 0 where none were mined."""
        return self.info["counts"].get("citing_sentences", 0)

    def _of_sentences(self, name: str) -> NDArray[Any]:
        path = self.folder / SENTENCE_PAIRS / name
        if not path.is_file():
            raise UserError(
                f"{self.folder} holds no pairs of citing sentences ({SENTENCE_PAIRS}/{name} is not "
                "there). Run prepare with --papers, --contexts F and --sentence-pairs set, or "
                "paper where most sentences cite one paper (in a recipe "
                "data.cocitation_mining.sentence_pairs)."
            )
        return load_array(path)

    def has_sentence_pair_tokens(self, key: str) -> bool:
        """Whether there is a store of citing sentences for ``TextTokenizer.key(form)``."""
        return (self.folder / SENTENCE_PAIR_TOKENS / key / "store.json").is_file()

    def sentence_pair_tokens(self, key: str) -> TokenStore:
        """The citing sentences as tokens, for ``TextTokenizer.key(form)``.

        Raises:
            UserError: the corpus holds no sentences, or they were not tokenised so.
        """
        self._of_sentences("papers_offsets.npy")
        if not self.has_sentence_pair_tokens(key):
            raise UserError(
                f"{self.folder} holds no tokens of its citing sentences by this tokenizer and "
                f"input format (key {key}); they were tokenised with "
                f"{self._tokenised('sentence_pair_stores')}"
                ". Run prepare again with the same files, --to this "
                "folder and --tokenizer (or -c RECIPE): only the tokens are added."
            )
        return TokenStore.open(self.folder / SENTENCE_PAIR_TOKENS / key)

    def paper_ids(self) -> list[str]:
        """The user's id of every paper.

        Raises:
            UserError: the corpus was prepared from full texts alone.
        """
        return self._column("papers", "paper_id")

    def papers(self) -> Iterator[dict[str, Any]]:
        """Every paper in order: ``paper``, ``paper_id``, ``title``, ``abstract``.

        ``abstract`` is a string, or a list of sentences where it was given so.

        Raises:
            UserError: the corpus was prepared from full texts alone.
        """
        yield from read_papers(self._parquet("papers"))

    @property
    def n_documents(self) -> int:
        """Number of documents (full texts); 0 in a corpus of papers alone."""
        return self.info["counts"].get("documents", 0)

    def documents(self, split: Split) -> NDArray[np.int32]:
        """The numbers of a split's documents, ``[n]``, ascending.

        Raises:
            UserError: the corpus was prepared without full texts.
        """
        self._check_documents()
        return load_array(self.folder / "documents" / f"{split}.npy")

    def document_ids(self) -> list[str]:
        """The user's id of every document; ``file:line`` where none was given.

        Raises:
            UserError: the corpus was prepared without full texts.
        """
        self._check_documents()
        return self._column("documents", "document_id")

    def document_texts(self) -> Iterator[str]:
        """Every document's text in order, some at a time in memory.

        Raises:
            UserError: the corpus was prepared without full texts.
        """
        self._check_documents()
        yield from read_documents(self.folder / "documents.parquet")

    def has_document_tokens(self, tokenizer: TextTokenizer) -> bool:
        """Whether the documents were tokenised by this tokenizer."""
        return (self.folder / "document_tokens" / tokenizer.document_key / "store.json").is_file()

    def document_tokens(self, tokenizer: TextTokenizer) -> TokenStore:
        """The documents as this tokenizer's tokens.

        Raises:
            UserError: the corpus has no documents, or was not tokenised so.
        """
        self._check_documents()
        if not self.has_document_tokens(tokenizer):
            raise UserError(
                f"{self.folder} holds no tokens of its documents by this tokenizer (key "
                f"{tokenizer.document_key}); they were tokenised with "
                f"{self._tokenised('document_stores')}"
                ". Run prepare again with the same files, --to this "
                "folder and --tokenizer (or -c RECIPE): only the tokens are added."
            )
        return TokenStore.open(self.folder / "document_tokens" / tokenizer.document_key)

    def _check_documents(self) -> None:
        if not self.n_documents:
            raise UserError(
                f"{self.folder} holds no documents (full texts). Prepare a corpus from them: "
                "`train prepare --fulltexts F_OR_FOLDER --to CORPUS --tokenizer NAME_OR_FOLDER`."
            )

    @property
    def has_tasks(self) -> bool:
        """Whether the corpus was prepared from tasks."""
        return (self.folder / "tasks.json").is_file()

    def tasks(self) -> TaskFolder:
        """The corpus's tasks.

        Raises:
            UserError: it was prepared without tasks.
        """
        return TaskFolder(self.folder, self.info["counts"].get("task_texts", 0))

    def has_tokens(self, key: str) -> bool:
        """Whether there is a token store for ``TextTokenizer.key(form)``."""
        return (self.folder / "tokens" / key / "store.json").is_file()

    def tokens(self, key: str) -> TokenStore:
        """The token store for ``TextTokenizer.key(form)``.

        Raises:
            UserError: the corpus was not tokenised so; the message says how it was.
        """
        if not self.has_tokens(key):
            raise UserError(
                f"{self.folder} holds no tokens of this tokenizer and input format (key {key}); "
                f"it was tokenised with {self._tokenised('token_stores')}"
                ". Run prepare again with the "
                "same files, --to this folder and --tokenizer (or -c RECIPE): only the tokens "
                "are added."
            )
        return TokenStore.open(self.folder / "tokens" / key)

    def has_sentenced_tokens(self, key: str) -> bool:
        """Whether there is a store of sentences for ``TextTokenizer.key(form)``."""
        return (self.folder / "sentenced_tokens" / key / "store.json").is_file()

    def sentenced_tokens(self, key: str) -> SentenceTokens:
        """The token store of papers and their sentences for ``TextTokenizer.key(form)``.

        Raises:
            UserError: the corpus was not tokenised so; the message says how it was.
        """
        if not self.has_sentenced_tokens(key):
            raise UserError(
                f"{self.folder} holds no tokens of sentences by this tokenizer and input format "
                f"(key {key}); it holds those of {self._tokenised('sentenced_stores')}"
                ". Run prepare again "
                "with the same files, --to this folder, --tokenizer (or -c RECIPE) and "
                "--sentence-tokens: only the tokens are added."
            )
        return SentenceTokens.open(self.folder / "sentenced_tokens" / key)

    @property
    def has_sentences(self) -> bool:
        """Whether the abstracts were cut into sentences."""
        return (self.folder / SENTENCES).is_file()

    def sentences(self) -> Iterator[tuple[str | None, list[str]]]:
        """Title and sentences of every paper in order.

        Raises:
            UserError: the abstracts were not cut into sentences.
        """
        if not self.has_sentences:
            raise UserError(
                f"{self.folder} holds no sentences of abstracts ({SENTENCES} is not there). Run "
                "prepare again with the same files, --to this folder, --tokenizer (or -c RECIPE) "
                "and --sentence-tokens: only they are added."
            )
        yield from read_sentences(self.folder)

    def _tokenised(self, stores: str) -> str:
        """By which tokenizers the texts of a kind are there, for a message."""
        made = self.info.get(stores, {}).values()
        told = [
            f"{store['tokenizer']} ({_spell(store['form'])})"
            if "form" in store
            else store["tokenizer"]
            for store in made
        ]
        return ", ".join(told) or "none"

    def _parquet(self, name: str) -> Path:
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise UserError(
                f"{self.folder} holds no {name} ({path.name} is not there). Prepare it from them."
            )
        return path

    def _column(self, name: str, column: str) -> list[str]:
        import pyarrow.parquet as pq

        table = pq.read_table(self._parquet(name), columns=[column])
        return table.column(column).to_pylist()

    def _array(self, name: str, what: str) -> NDArray[Any]:
        path = self.folder / name
        if not path.is_file():
            raise UserError(
                f"{self.folder} holds no {what} ({name} is not there). "
                "Prepare it from papers and citations."
            )
        return load_array(path)


def _spell(input_format: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in input_format.items() if value)


def _rows(path: Path, columns: list[str], batch: int = 4096) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a batch in memory."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for rows in file.iter_batches(batch_size=batch, columns=columns):
            yield from rows.to_pylist()


def read_papers(path: Path, batch: int = 4096) -> Iterator[dict[str, Any]]:
    """The rows of a ``papers.parquet`` as `Corpus.papers` gives them, a batch in memory."""
    for row in _rows(path, ["paper", "paper_id", "title", "abstract", "sentences"], batch):
        sentences = row.pop("sentences")
        if sentences is not None:
            row["abstract"] = sentences
        yield row


def read_documents(path: Path) -> Iterator[str]:
    """The texts of a ``documents.parquet`` in order, a row group in memory."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            texts = file.read_row_group(group, columns=["text"]).column("text")
            for text in texts:
                yield text.as_py()


def save_documents(folder: Path, split: Split, documents: NDArray[np.int32]) -> None:
    """Write a split's document numbers into a corpus being written."""
    (folder / "documents").mkdir(exist_ok=True)
    np.save(folder / "documents" / f"{split}.npy", documents.astype(np.int32))


def save_split(
    folder: Path,
    split: Split,
    triplets: NDArray[np.int32],
    hard: NDArray[np.bool_],
) -> None:
    """Write a split's triplets ``[N, 3]`` and ``hard`` ``[N]`` into a corpus being written."""
    (folder / "triplets").mkdir(exist_ok=True)
    np.save(folder / "triplets" / f"{split}.npy", triplets.astype(np.int32))
    np.save(folder / "triplets" / f"{split}.hard.npy", hard.astype(np.bool_))


def save_queries(folder: Path, split: Split, queries: NDArray[np.int32]) -> None:
    """Write a split's query papers into a corpus being written."""
    (folder / "queries").mkdir(exist_ok=True)
    np.save(folder / "queries" / f"{split}.npy", queries.astype(np.int32))


class ArrayWriter:
    """An ``.npy`` file written a piece at a time.

    Args:
        path: the file.
        dtype: of its entries, as numpy spells it.
        shape: its shape, which must be known before.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.left = np.dtype(dtype), int(np.prod(shape))
        self.file = path.open("wb")
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)

    def add(self, values: NDArray[Any]) -> None:
        """Write the next entries."""
        self.left -= values.size
        self.file.write(np.ascontiguousarray(values, self.dtype).tobytes())

    def close(self) -> None:
        """Close the file.

        Raises:
            RuntimeError: not so many entries were written as the shape says (a defect).
        """
        self.file.close()
        if self.left:
            raise RuntimeError("the database gave another number of rows than it counted")


def save_info(folder: Path, info: Mapping[str, Any], name: str = "corpus.json") -> None:
    """Write ``corpus.json`` or ``report.json``, whole or not at all."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(folder / name)


@contextmanager
def written_whole(to: Path, marker: str = "corpus.json") -> Iterator[Path]:
    """A temporary folder beside ``to`` that takes its name when the block ends well.

    An error removes it. What a killed process left behind is removed by the next one; ``to``
    is never there half written. A folder that stands at ``to`` is replaced if it is empty or
    holds ``marker``.

    Raises:
        UserError: the place cannot be written, or holds something else.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not (to / marker).is_file()):
        raise UserError(f"{to} exists and is no corpus. Give --to another folder, or remove it.")
    partial = to.parent / f".{to.name}.partial-{socket.gethostname()}-{os.getpid()}"
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        _sweep(to)
        partial.mkdir()
    except OSError as error:
        raise UserError(
            f"{to} cannot be written: {error.strerror or error}. Give a folder that can."
        ) from error
    try:
        yield partial
        old = to.parent / f".{to.name}.old-{socket.gethostname()}-{os.getpid()}"
        if to.exists():
            to.rename(old)
        try:
            partial.rename(to)
        except OSError:
            if old.exists():
                old.rename(to)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno in (28, 122):  # no space, quota: the user can mend it
            raise UserError(f"{to} could not be written: {error.strerror}.") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(to: Path) -> None:
    """Remove what dead processes of this machine left beside ``to``."""
    host = socket.gethostname()
    for path in sorted(to.parent.iterdir()):
        for kind in ("partial", "old"):
            start = f".{to.name}.{kind}-{host}-"
            pid = path.name.removeprefix(start)
            if not path.name.startswith(start) or not pid.isdigit() or _alive(int(pid)):
                continue
            if kind == "old" and not to.exists():
                path.rename(to)  # it died between the two renames: the old corpus is whole
            else:
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
