"""The kinds of token stores that a corpus folder holds: where each lies and what opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sciembed_train.corpus.store.part_store import PartTokens
from sciembed_train.corpus.store.sentence_store import SentenceIndexedTokens
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.errors import UserError

Store = TypeVar("Store", bound=TokenStore)
SENTENCE_PAIR_ADVICE = (
    "Run prepare with --papers, --contexts F and --sentence-pairs set, or paper where most "
    "sentences cite one paper (in a recipe data.cocitation_mining.sentence_pairs)."
)


@dataclass(frozen=True)
class TokenKind(Generic[Store]):
    """One kind of texts that a corpus holds tokens of.

    Each store has a folder named by its key in ``folder``, and an ``entry`` of ``corpus.json`` that
    repeats ``facts`` of it. Where ``count`` of ``corpus.json`` is 0, ``missing`` says what to do.
    ``option`` of `prepare` is needed besides the tokenizer.
    """

    texts: str
    folder: str
    entry: str
    store: type[Store]
    count: str = ""
    missing: str = ""
    option: str = ""
    facts: tuple[str, ...] = ("tokenizer", "form", "tokens", "vocab_size")

    def path(self, corpus: Path, key: str) -> Path:
        """The folder of the store with this key."""
        return corpus / self.folder / key

    def exists(self, corpus: Path, key: str) -> bool:
        """Whether there is a store with this key."""
        return (self.path(corpus, key) / "store.json").is_file()

    def check_texts(self, corpus: Path, info: Mapping[str, Any]) -> None:
        """Raise `UserError` where the corpus holds no such texts."""
        if self.count and not info["counts"].get(self.count, 0):
            raise UserError(f"{corpus} holds no {self.missing}")

    def open(self, corpus: Path, info: Mapping[str, Any], key: str) -> Store:
        """The store with this key, of the tokenizer and, but for documents, the input format.

        Raises:
            UserError: the corpus holds no such texts, or they were not tokenised so; the message
                says how they were.
        """
        self.check_texts(corpus, info)
        if not self.exists(corpus, key):
            stores = [_describe(store) for store in info.get(self.entry, {}).values()]
            raise UserError(
                f"{corpus} holds no tokens of its {self.texts} by this tokenizer and input format "
                f"(key {key}); they were tokenised with {', '.join(stores) or 'none'}. Give the "
                "run one of these (--model.encoder.input_format.cleaning none, and so on), or run "
                "prepare again with the same files, --to this folder and --tokenizer (or -c "
                f"RECIPE){self.option}: only the tokens are added."
            )
        store = self.store.open(self.path(corpus, key))
        assert isinstance(store, self.store)
        return store


def _describe(store: Mapping[str, Any]) -> str:
    """A store's tokenizer and input format, as ``corpus.json`` has them."""
    if "form" not in store:
        return store["tokenizer"]
    input_format = ", ".join(f"{name}={value}" for name, value in store["form"].items() if value)
    return f"{store['tokenizer']} ({input_format})"


PAPER_TOKENS = TokenKind("papers", "tokens", "token_stores", TokenStore)
SENTENCE_INDEXED_TOKENS = TokenKind(
    "papers with the positions of their sentences",
    "sentenced_tokens",
    "sentenced_stores",
    SentenceIndexedTokens,
    option=" and --sentence-tokens",
    facts=("tokenizer", "form", "tokens", "sentences"),
)
PART_TOKENS = TokenKind(
    "titles and abstracts, each alone",
    "part_tokens",
    "part_stores",
    PartTokens,
    option=" and --part-tokens",
)
CITING_SENTENCE_TOKENS = TokenKind(
    "citing sentences",
    "sentence_pair_tokens",
    "sentence_pair_stores",
    TokenStore,
    count="citing_sentences",
    missing=f"pairs of citing sentences. {SENTENCE_PAIR_ADVICE}",
)
DOCUMENT_TOKENS = TokenKind(
    "documents",
    "document_tokens",
    "document_stores",
    TokenStore,
    count="documents",
    missing=(
        "documents (full texts). Prepare a corpus from them: `train prepare --fulltexts "
        "F_OR_FOLDER --to CORPUS --tokenizer NAME_OR_FOLDER`."
    ),
    facts=("tokenizer", "tokens", "vocab_size"),
)
TASK_TOKENS = TokenKind("tasks' texts", "task_tokens", "task_stores", TokenStore)
TOKEN_KINDS = (
    *(PAPER_TOKENS, SENTENCE_INDEXED_TOKENS, PART_TOKENS),
    *(CITING_SENTENCE_TOKENS, DOCUMENT_TOKENS, TASK_TOKENS),
)
