"""Adds the token stores of one tokenizer to a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.atomic_folder import save_info, written_whole
from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.sentence_store import write_sentence_store, write_sentences
from sciembed_train.corpus.store.token_kinds import (
    CITING_SENTENCE_TOKENS,
    DOCUMENT_TOKENS,
    PAPER_TOKENS,
    SENTENCE_INDEXED_TOKENS,
    TASK_TOKENS,
    TokenKind,
)
from sciembed_train.corpus.store.token_store_writing import (
    write_document_store,
    write_task_store,
    write_token_store,
)
from sciembed_train.progress import Progress
from sciembed_train.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class _Texts:
    """One kind of texts that a corpus holds, and how they are tokenised.

    Args:
        name: of the stage.
        count: number of texts.
        unit: what is counted.
        kind: of the store.
        key: of the store.
        facts: what the entry of ``corpus.json`` repeats of a store.
        write: tokenises the texts; called with the folder and keyword arguments.
    """

    name: str
    count: int
    unit: str
    kind: TokenKind[Any]
    key: str
    facts: tuple[str, ...]
    write: Callable[..., Any]


def add_tokens(
    corpus: Corpus, settings: PrepareSettings, tokenizer: TextTokenizer | None, progress: Progress
) -> None:
    """Write the token stores that are missing; without a tokenizer the corpus stays as it is."""
    if tokenizer is None:
        return
    for texts in _kinds_of_texts(corpus, settings, tokenizer, progress):
        if not texts.count or corpus.has_tokens(texts.key, texts.kind):
            continue
        with (
            progress.stage(texts.name, texts.count, texts.unit) as stage,
            written_whole(texts.kind.path(corpus.folder, texts.key), "store.json") as folder,
        ):
            store = texts.write(folder, name=str(settings.tokenizer), on_batch=stage.reach)
        stores = corpus.info.setdefault(texts.kind.entry, {})
        stores[texts.key] = {fact: store.info[fact] for fact in texts.facts}
        save_info(corpus.folder, corpus.info)


def _kinds_of_texts(
    corpus: Corpus, settings: PrepareSettings, tokenizer: TextTokenizer, progress: Progress
) -> Iterator[_Texts]:
    """What there is to tokenise, in order; a kind is looked at when the one before is written."""
    input_format = settings.input_format
    key = tokenizer.key(input_format)
    facts = ("tokenizer", "form", "tokens", "vocab_size")
    yield _Texts(
        name="tokens",
        count=corpus.n_papers,
        unit="papers",
        kind=PAPER_TOKENS,
        key=key,
        facts=facts,
        write=lambda folder, **options: write_token_store(
            folder,
            tokenizer,
            input_format,
            read_papers(corpus.folder / "papers.parquet"),
            **options,
        ),
    )
    if settings.sentence_tokens:
        split_abstracts(corpus, progress)
        yield _Texts(
            name="tokens of sentences",
            count=corpus.n_papers,
            unit="papers",
            kind=SENTENCE_INDEXED_TOKENS,
            key=key,
            facts=("tokenizer", "form", "tokens", "sentences"),
            write=lambda folder, **options: write_sentence_store(
                folder, tokenizer, input_format, corpus.sentences(), **options
            ),
        )
    yield _Texts(
        name="tokens of citing sentences",
        count=corpus.n_citing_sentences,
        unit="rows",
        kind=CITING_SENTENCE_TOKENS,
        key=key,
        facts=facts,
        write=lambda folder, **options: write_token_store(
            folder, tokenizer, input_format, _sentences_as_papers(corpus), **options
        ),
    )
    if corpus.has_tasks:
        tasks = corpus.tasks()
        yield _Texts(
            name="tokens of tasks",
            count=tasks.n_texts,
            unit="texts",
            kind=TASK_TOKENS,
            key=key,
            facts=facts,
            write=lambda folder, **options: write_task_store(
                folder, tokenizer, input_format, tasks.texts(), **options
            ),
        )
    yield _Texts(
        name="document tokens",
        count=corpus.n_documents,
        unit="documents",
        kind=DOCUMENT_TOKENS,
        key=tokenizer.document_key,
        facts=("tokenizer", "tokens", "vocab_size"),
        write=lambda folder, **options: write_document_store(
            folder, tokenizer, corpus.document_texts(), **options
        ),
    )


def _sentences_as_papers(corpus: Corpus) -> Iterator[dict[str, Any]]:
    """The citing sentences as titles without an abstract, as the encoder reads them."""
    for number, text in enumerate(corpus.citing_sentences()):
        yield {"paper": number, "title": text, "abstract": None}


def split_abstracts(corpus: Corpus, progress: Progress) -> None:
    """Split the abstracts of a corpus into sentences, unless that has been done."""
    if not corpus.has_sentences:
        with progress.stage("sentences", corpus.n_papers, "papers") as stage:
            papers = read_papers(corpus.folder / "papers.parquet")
            write_sentences(corpus.folder, papers, stage.reach)
