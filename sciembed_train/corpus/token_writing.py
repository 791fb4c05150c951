"""Adds the token stores of one tokenizer to a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.shared_work import Reach, SharedWork
from sciembed_train.corpus.store.corpus_files import read_papers, save_info, written_whole
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.kept_tokens import KeptTokens
from sciembed_train.corpus.store.part_store import write_part_store
from sciembed_train.corpus.store.sentence_store import write_sentence_store, write_sentences
from sciembed_train.corpus.store.token_kinds import (
    CITING_SENTENCE_TOKENS,
    DOCUMENT_TOKENS,
    PAPER_TOKENS,
    PART_TOKENS,
    SENTENCE_INDEXED_TOKENS,
    TASK_TOKENS,
    TokenKind,
)
from sciembed_train.corpus.store.token_store_writing import (
    SHARD_PAPERS,
    join_stores,
    write_document_store,
    write_task_store,
    write_token_store,
)
from sciembed_train.corpus.token_task import WRITERS, TokenTask
from sciembed_train.progress import Progress, Stage
from sciembed_train.text.tokenizer import TextTokenizer

# Stores that reuse the tokens of an earlier corpus where papers are the same.
KEPT: tuple[TokenKind[Any], ...] = (PAPER_TOKENS, PART_TOKENS)


def add_tokens(
    corpus: Corpus,
    settings: PrepareSettings,
    tokenizer: TextTokenizer | None,
    progress: Progress,
    earlier: Corpus | None = None,
    work: SharedWork | None = None,
) -> None:
    """Write the token stores that are missing; without a tokenizer the corpus stays as it is.

    Tokens of papers that an ``earlier`` corpus has too are reused. Stores of papers are made
    together with the processes that share the ``work``.
    """
    if tokenizer is None:
        return
    form = settings.input_format

    def add(
        kind: TokenKind[Any],
        name: str,
        count: int,
        unit: str,
        write: Callable[..., Any],
        *texts: Any,
    ) -> None:
        """Tokenise ``count`` texts, if there are any, by ``write(folder, tokenizer, *texts)``."""
        key = tokenizer.document_key if kind is DOCUMENT_TOKENS else tokenizer.key(form)
        if not count or corpus.has_tokens(key, kind):
            return
        with (
            progress.stage(name, count, unit) as stage,
            written_whole(kind.path(corpus.folder, key), "store.json") as folder,
        ):
            source = str(settings.tokenizer)
            if work is not None and kind.folder in WRITERS:
                task = TokenTask(
                    corpus.folder, kind.folder, count, tokenizer, source, form, earlier
                )
                join_stores(work.share(task, _in_papers(stage, count)), folder, source)
                store, kept_tokens = kind.store.open(folder), None
            else:
                options: dict[str, Any] = {"name": source, "on_batch": stage.reach}
                kept_tokens = KeptTokens.of(earlier, key, kind) if kind in KEPT else None
                if kept_tokens is not None:
                    options["kept"] = kept_tokens
                store = write(folder, tokenizer, *texts, **options)
        if kept_tokens is not None:
            progress.print(
                f"{name}: {kept_tokens.count:,} of {count:,} papers were tokenised before"
            )
        stores = corpus.info.setdefault(kind.entry, {})
        stores[key] = {fact: store.info[fact] for fact in kind.facts}
        save_info(corpus.folder, corpus.info)

    n_papers, papers = corpus.n_papers, read_papers(corpus.folder / "papers.parquet")
    add(PAPER_TOKENS, "tokens", n_papers, "papers", write_token_store, form, papers)
    if settings.sentence_tokens:
        split_abstracts(corpus, progress)
        kind, name = SENTENCE_INDEXED_TOKENS, "tokens of sentences"
        add(kind, name, n_papers, "papers", write_sentence_store, form, corpus.sentences())
    if settings.part_tokens:
        kind, name = PART_TOKENS, "tokens of titles and abstracts"
        papers = read_papers(corpus.folder / "papers.parquet")
        add(kind, name, n_papers, "papers", write_part_store, form, papers)
    kind, name = CITING_SENTENCE_TOKENS, "tokens of citing sentences"
    sentences = _sentences_as_papers(corpus)
    add(kind, name, corpus.n_citing_sentences, "rows", write_token_store, form, sentences)
    if corpus.has_tasks:
        tasks = corpus.tasks()
        count, texts = tasks.n_texts, tasks.texts()
        add(TASK_TOKENS, "tokens of tasks", count, "texts", write_task_store, form, texts)
    count, texts = corpus.n_documents, corpus.document_texts()
    add(DOCUMENT_TOKENS, "document tokens", count, "documents", write_document_store, texts)


def _in_papers(stage: Stage, count: int) -> Reach:
    """Reports finished shards to a stage that counts papers."""
    return lambda done, _: stage.reach(min(done * SHARD_PAPERS, count))


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
