"""The tokens of a corpus's papers, shard by shard, so that several processes can make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.kept_tokens import KeptTokens
from sciembed_train.corpus.store.part_store import write_part_store
from sciembed_train.corpus.store.token_kinds import PAPER_TOKENS, PART_TOKENS, TokenKind
from sciembed_train.corpus.store.token_store_writing import (
    SHARD_PAPERS,
    link_or_copy,
    write_token_store,
)
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

PAPERS = "papers.parquet"
# The stores whose shards need only their own papers, and what writes each.
WRITERS: dict[str, tuple[TokenKind[Any], Callable[..., Any]]] = {
    kind.folder: (kind, write)
    for kind, write in ((PAPER_TOKENS, write_token_store), (PART_TOKENS, write_part_store))
}


class TokenTask:
    """A token store of papers, a unit being one shard; see `shared_work.Task`.

    Args:
        folder: of the papers and of the units' results.
        store: the folder of the kind of store, a key of `WRITERS`.
        count: the number of papers.
        tokenizer: of the store.
        name: where it came from.
        input_format: how title and abstract become one text.
        earlier: a corpus whose tokens are taken where papers are the same.
    """

    kind, unit = "tokens", "shards"

    def __init__(
        self,
        folder: Path,
        store: str,
        count: int,
        tokenizer: TextTokenizer,
        name: str,
        input_format: InputFormat,
        earlier: Corpus | None = None,
    ) -> None:
        self.folder, self.store, self.count = folder, store, count
        self.tokenizer, self.tokenizer_name = tokenizer, name
        self.input_format, self.earlier = input_format, earlier
        self.title = f"tokens of {WRITERS[store][0].texts}"

    @property
    def name(self) -> str:
        """The task's own name."""
        return f"{self.store}-{self.tokenizer.key(self.input_format)}"

    @property
    def units(self) -> int:
        """The number of shards."""
        return -(-self.count // SHARD_PAPERS)

    def save(self, folder: Path) -> dict[str, Any]:
        """Put the papers where another process finds them; return what `open` gets besides."""
        link_or_copy(self.folder / PAPERS, folder / PAPERS)
        return {"store": self.store, "count": self.count}

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Nothing: the shards follow from the papers."""

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        facts: Mapping[str, Any],
        tokenizer: TextTokenizer,
        name: str,
        input_format: InputFormat,
        earlier: Corpus | None,
    ) -> Iterator[TokenTask]:
        """The task that another process saved."""
        store, count = facts["store"], facts["count"]
        yield cls(folder, store, count, tokenizer, name, input_format, earlier)

    def do(self, unit: int, to: Path) -> None:
        """Tokenise the papers of a shard into the folder ``to``."""
        kind, write = WRITERS[self.store]
        first = unit * SHARD_PAPERS
        stop = min(first + SHARD_PAPERS, self.count)
        papers = read_papers(self.folder / PAPERS, first=first, stop=stop)
        head = next(read_papers(self.folder / PAPERS, batch=1, first=first))
        key = self.tokenizer.key(self.input_format)
        write(
            to,
            self.tokenizer,
            self.input_format,
            papers,
            first=first,
            name=self.tokenizer_name,
            kept=KeptTokens.of(self.earlier, key, kind, since=head["paper_id"]),
        )
