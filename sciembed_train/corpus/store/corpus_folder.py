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

from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.checksums import check_file
from sciembed_train.corpus.store.corpus_files import (
    EXCLUDED_PAPERS,
    FIRST_OF_TEXT,
    SENTENCE_PAIRS,
    TITLES,
    Split,
    of_texts,
    read_documents,
    read_info,
    read_papers,
    read_rows,
)
from sciembed_train.corpus.store.sentence_store import SENTENCES, read_sentences
from sciembed_train.corpus.store.token_kinds import (
    DOCUMENT_TOKENS,
    PAPER_TOKENS,
    SENTENCE_PAIR_ADVICE,
    Store,
    TokenKind,
)
from sciembed_train.corpus.store.token_store import TokenStore, check_numbers, load_array
from sciembed_train.corpus.tasks.task_store import TaskFolder
from sciembed_train.errors import UserError


class Corpus:
    """A prepared corpus, opened for reading; papers are the integers 0 to ``n_papers - 1``.

    ``info`` is the contents of ``corpus.json``. Every method raises `UserError` where the corpus
    was prepared without what it reads; the message says how to prepare it.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus; a `UserError` if it is none, or one of another version."""
        return cls(Path(folder), read_info(Path(folder)))

    def __repr__(self) -> str:
        held = f"{self.n_papers} papers, {self.n_documents} documents"
        return f"Corpus({str(self.folder)!r}, {held})"

    @property
    def n_papers(self) -> int:
        """Number of papers, ``P``."""
        return self.info["counts"]["papers"]

    def triplets(self, split: Split) -> NDArray[np.int32]:
        """Mined triplets ``[N, 3]``: query, positive, negative."""
        return self._array(f"triplets/{split}.npy", "triplets", below=self.n_papers)

    def hard(self, split: Split) -> NDArray[np.bool_]:
        """Whether each triplet's negative is a hard one, ``[N]``."""
        return self._array(f"triplets/{split}.hard.npy", "triplets")

    def queries(self, split: Split) -> NDArray[np.int32]:
        """The query papers of a split (papers with a text that cite one), ascending."""
        return self._array(f"queries/{split}.npy", "query papers", below=self.n_papers)

    def paper_splits(self) -> NDArray[np.int8]:
        """The split of every paper, whether it cites or not, ``[P]``: its place in `SPLITS`.

        Raises:
            UserError: the corpus has no papers, or was prepared before splits were written.
        """
        return self._array(
            "paper_splits.npy",
            "splits of its papers",
            "Remove the folder and run prepare again with the same files.",
        )

    def first_of_text(self) -> NDArray[np.int32]:
        """The first paper of each one's text, itself for most, ``[P]``."""
        return np.asarray(self._array(FIRST_OF_TEXT, "account of equal texts", below=self.n_papers))

    def distinct_papers(self) -> NDArray[np.bool_]:
        """Whether each paper is the first one of its text, and not excluded, ``[P]``.

        Of several ids with the same text one paper takes part: triplets and queries are its own,
        and no other is drawn as a negative or ranked.
        """
        return (self.first_of_text() == np.arange(self.n_papers)) & ~self.excluded_papers()

    def excluded_papers(self) -> NDArray[np.bool_]:
        """Whether each paper is kept out of training, as ``exclude`` asked, ``[P]``."""
        if not (self.folder / EXCLUDED_PAPERS).is_file():
            return np.zeros(self.n_papers, np.bool_)
        return np.asarray(self._array(EXCLUDED_PAPERS, "account of what is excluded"))

    def titles(self) -> NDArray[np.int64]:
        """The `text_number` of each paper's title, ``[P]``."""
        return self._array(TITLES, "numbers of its papers' titles")

    def citations_of_texts(self) -> NDArray[np.int32]:
        """The citations between papers of different texts, each the first one of its text."""
        return of_texts(self.citations(), self.first_of_text())

    def citations(self) -> NDArray[np.int32]:
        """The citations, ``[E, 2]``: citing, cited; distinct and ascending."""
        return self._array("citations.npy", "citations", below=self.n_papers)

    def cocitations(self, split: Split) -> NDArray[np.int32]:
        """Pairs of papers that are cited together, ``[N, 2]``: a < b, distinct and ascending.

        Training pairs have two training papers, test pairs a test paper, dev pairs a dev paper
        and no test paper. Which of a pair is the query is left open here.
        """
        return self._cocited(f"{split}.npy", self.n_papers)

    def cocitation_counts(self, split: Split) -> NDArray[np.int32]:
        """How often each pair of `cocitations` is cited together, by all sources, ``[N]``."""
        return self._cocited(f"{split}.count.npy")

    def known_cocitations(self) -> NDArray[np.int64]:
        """Every pair known to be co-cited, as ``a * n_papers + b`` with a < b, ``[K]``, ascending.

        Pairs of every split, and those that filters kept out of the splits; none may be a negative.
        """
        return self._cocited("known.npy", self.n_papers**2)

    def _cocited(self, name: str, below: int | None = None) -> NDArray[Any]:
        return self._array(
            f"cocitations/{name}",
            "co-cited papers",
            "Run prepare with --papers and one of --contexts F (citing sentences), --cocitations F "
            "(counted pairs), or --citations F --cocitations-from references.",
            below,
        )

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Every kept context, in order: ``context``, ``text``, ``papers`` of its group."""
        columns = ["context", "text", "papers"]
        yield from read_rows(self._parquet("contexts"), columns)

    def sentence_pairs(self, split: Split) -> NDArray[np.int32]:
        """Pairs of sentences that cite the same, ``[N, 2]``: a < b, distinct and ascending.

        A test pair has a sentence that cites a test paper, a dev pair one that cites a dev paper
        and none that cites a test paper. Which of a pair is the query is left open here.
        """
        return self._of_sentence_pairs(f"{split}.npy", self.n_citing_sentences)

    def sentence_papers(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The papers that the sentences of pairs cite, in any row of the same text.

        End to end, ``[C]``, and where each sentence's begin, ``[S + 1]``.
        """
        papers = self._of_sentence_pairs("papers.npy", self.n_papers)
        return papers, self._of_sentence_pairs("papers_offsets.npy", len(papers) + 1)

    def citing_sentences(self) -> Iterator[str]:
        """The texts of the sentences of pairs, in the order of their numbers."""
        self._of_sentence_pairs("papers_offsets.npy")
        path = self.folder / SENTENCE_PAIRS / "sentences.parquet"
        for row in read_rows(path, ["text"]):
            yield row["text"]

    @property
    def n_citing_sentences(self) -> int:
        """Number of sentences in the pairs, ``S``; 0 where none were mined."""
        return self.info["counts"].get("citing_sentences", 0)

    def _of_sentence_pairs(self, name: str, below: int | None = None) -> NDArray[Any]:
        return self._array(
            f"{SENTENCE_PAIRS}/{name}", "pairs of citing sentences", SENTENCE_PAIR_ADVICE, below
        )

    def paper_ids(self) -> list[str]:
        """The user's id of every paper."""
        return self._column("papers", "paper_id")

    def papers(self) -> Iterator[dict[str, Any]]:
        """Every paper in order: ``paper``, ``paper_id``, ``title``, ``abstract``.

        ``abstract`` is a string, or a list of sentences where the user's file has one.
        """
        yield from read_papers(self._parquet("papers"))

    @property
    def n_documents(self) -> int:
        """Number of documents (full texts); 0 in a corpus of papers alone."""
        return self.info["counts"].get("documents", 0)

    def documents(self, split: Split) -> NDArray[np.int32]:
        """The numbers of a split's documents, ``[n]``, ascending."""
        DOCUMENT_TOKENS.check_texts(self.folder, self.info)
        return self._array(f"documents/{split}.npy", "documents", below=self.n_documents)

    def document_ids(self) -> list[str]:
        """The user's id of every document; ``file:line`` where there was none."""
        DOCUMENT_TOKENS.check_texts(self.folder, self.info)
        return self._column("documents", "document_id")

    def document_texts(self) -> Iterator[str]:
        """Every document's text in order, some at a time in memory."""
        DOCUMENT_TOKENS.check_texts(self.folder, self.info)
        yield from read_documents(self.folder / "documents.parquet")

    @property
    def has_tasks(self) -> bool:
        """Whether the corpus was prepared from tasks."""
        return (self.folder / "tasks.json").is_file()

    def tasks(self) -> TaskFolder:
        """The corpus's tasks."""
        return TaskFolder(self.folder, self.info["counts"].get("task_texts", 0))

    def has_tokens(self, key: str, kind: TokenKind[Any] = PAPER_TOKENS) -> bool:
        """Whether the texts of a kind have tokens by the tokenizer and input format of this key.

        The key is ``TextTokenizer.key(input_format)``; of documents ``TextTokenizer.document_key``.
        """
        return kind.exists(self.folder, key)

    @overload
    def tokens(self, key: str) -> TokenStore: ...

    @overload
    def tokens(self, key: str, kind: TokenKind[Store]) -> Store: ...

    def tokens(self, key: str, kind: TokenKind[Any] = PAPER_TOKENS) -> Any:
        """The texts of a kind as tokens, by the same key as `has_tokens`."""
        return kind.open(self.folder, self.info, key)

    @property
    def has_sentences(self) -> bool:
        """Whether the abstracts were cut into sentences."""
        return (self.folder / SENTENCES).is_file()

    def sentences(self) -> Iterator[tuple[str | None, list[str]]]:
        """Title and sentences of every paper in order."""
        if not self.has_sentences:
            raise UserError(
                f"{self.folder} holds no sentences of abstracts ({SENTENCES} is not there). Run "
                "prepare again with the same files, --to this folder, --tokenizer (or -c RECIPE) "
                "and --sentence-tokens: only they are added."
            )
        yield from read_sentences(self.folder)

    def _parquet(self, name: str) -> Path:
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise UserError(
                f"{self.folder} holds no {name} ({path.name} is not there). Prepare it from them."
            )
        return path

    def _column(self, name: str, column: str) -> list[str]:
        import pyarrow.parquet as pq

        check_file(self._parquet(name))
        table = pq.read_table(self._parquet(name), columns=[column])
        return table.column(column).to_pylist()

    def _array(
        self,
        name: str,
        what: str,
        advice: str = "Prepare it from papers and citations.",
        below: int | None = None,
    ) -> NDArray[Any]:
        """An array of the corpus, of numbers from 0 to ``below`` where that is given."""
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{self.folder} holds no {what} ({name} is not there). {advice}")
        array = load_array(path)
        if below is not None:
            check_numbers(array, path, below)
        return array
