"""A corpus folder made from a user's files, or what is missing in it added."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import EXAMPLES, Audit
from sciembed_train.corpus.fulltext.documents import write_documents
from sciembed_train.corpus.mining.build_cocitations import build_cocitations
from sciembed_train.corpus.mining.build_triplets import build_plain, build_specter, refuse_shared
from sciembed_train.corpus.papers import Papers, assign_splits, read_id_list, write_papers
from sciembed_train.corpus.prepare_settings import Inputs, PrepareSettings, open_inputs
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import read_size, running
from sciembed_train.corpus.store.corpus_folder import (
    CORPUS_VERSION,
    SENTENCE_PAIR_TOKENS,
    Corpus,
    Split,
    read_papers,
    save_info,
    written_whole,
)
from sciembed_train.corpus.store.sentence_store import write_sentence_store, write_sentences
from sciembed_train.corpus.store.token_store import (
    write_document_store,
    write_task_store,
    write_token_store,
)
from sciembed_train.corpus.tasks.build_tasks import build_tasks
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.text.tokenizer import TextTokenizer

# What the interpreter and its libraries hold beside the database, and the part of the rest that
# the database gets: its limit does not count everything it holds.
BASE_MEMORY = 600 * 10**6
DATABASE_SHARE = 0.5
WORK = "work"  # a folder that is gone when the corpus is done


def prepare(settings: PrepareSettings, progress: Progress | None = None) -> Corpus:
    """Make a corpus folder, or add a tokenizer's tokens to the one that is there.

    A folder at ``to`` made from the same files with the same settings is kept, and only missing
    tokens are added; one made otherwise is replaced when the new one is complete.

    Args:
        settings: what to read and how.
        progress: is told how far it is; silence by default.

    Raises:
        UserError: the input is wrong, nothing can be mined, or ``to`` cannot be written.
    """
    progress = progress or Progress(quiet=True)
    if settings.to is None:
        raise UserError("prepare needs --to, the corpus folder to make.")
    to = Path(settings.to)
    inputs = open_inputs(settings)
    tokenizer = TextTokenizer.load(settings.tokenizer) if settings.tokenizer is not None else None
    corpus = _existing(to, inputs.identity)
    if corpus is None:
        with written_whole(to) as folder:
            _build(folder, settings, inputs, progress)
            _add_tokens(Corpus.open(folder), settings, tokenizer, progress)
    else:
        progress.say(f"{to} is already made from these files with these settings.")
        _add_tokens(corpus, settings, tokenizer, progress)
    return Corpus.open(to)


def cached_corpus(
    settings: PrepareSettings, cache: str | Path, progress: Progress | None = None
) -> Corpus:
    """The corpus of these settings from a cache folder, prepared there unless it is there.

    Several processes may ask at once: one prepares, the others wait.

    Args:
        settings: what to read and how; ``to`` is not looked at.
        cache: a folder of corpora named by what they were made from.
        progress: is told how far it is.
    """
    from filelock import FileLock

    identity = open_inputs(settings).identity
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(cache) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{name}.lock")
        with lock:
            return prepare(dataclasses.replace(settings, to=folder), progress)
    except PermissionError as error:
        raise UserError(f"{cache} cannot be written: {error.strerror}.") from error


def _existing(to: Path, identity: dict[str, Any]) -> Corpus | None:
    """The corpus at ``to`` if it was made from the same files with the same settings."""
    if not (to / "corpus.json").is_file():
        return None
    try:
        info = json.loads((to / "corpus.json").read_text(encoding="utf-8"))
    except ValueError:
        return None
    same = info.get("version") == CORPUS_VERSION and info.get("identity") == identity
    return Corpus.open(to) if same else None


def _build(folder: Path, settings: PrepareSettings, inputs: Inputs, progress: Progress) -> None:
    """Everything but the tokens, into an empty folder."""
    report: dict[str, Any] = {}
    lists: dict[Split, set[str]] = {
        split: read_id_list(path) for split, path in inputs.lists.items()
    }
    counts: dict[str, Any] = {"papers": 0, "papers_with_text": 0, "citations": 0}
    known: set[Split] = set()  # the lists that name something
    if inputs.papers is not None:
        counts, papers = _build_papers(folder, settings, inputs, lists, report, progress)
        known = {split for split, ids in lists.items() if not ids.isdisjoint(papers.key)}
    if inputs.fulltexts is not None:
        counts |= _build_documents(folder, settings, inputs.fulltexts, lists, report, progress)
        unknown = report["fulltexts"]["ids that name no document"]
        known |= {split for split, ids in lists.items() if unknown[split]["count"] < len(ids)}
    if inputs.tasks is not None:
        counts |= _build_tasks(folder, settings, inputs, report, progress)
    for split, ids in lists.items():
        if ids and inputs.data is None and split not in known:
            raise UserError(_names_nobody(inputs, split, ids))
    info = {
        "version": CORPUS_VERSION,
        "made_by": f"sciembed_train {version('sciembed_train')}",
        "sources": [
            {"kind": kind, **file}
            for kind, files in inputs.identity["sources"].items()
            for file in files
        ],
        "counts": counts,
        "settings": {
            name: inputs.identity[name]
            for name in (
                *("format", "triplets", "cocitations", "tasks"),
                *("dev_share", "test_share", "seed"),
            )
            if name in inputs.identity
        },
        "identity": inputs.identity,
        "token_stores": {},
        "document_stores": {},
    }
    save_info(folder, report, "report.json")
    save_info(folder, info)


def _names_nobody(inputs: Inputs, split: Split, ids: set[str]) -> str:
    what = " or ".join(
        name
        for name, table in (("paper", inputs.papers), ("document", inputs.fulltexts))
        if table is not None
    )
    return (
        f"{inputs.lists[split]}: not one of its {len(ids):,} ids is the id of a {what} (the first "
        f"is {min(ids)!r}). One `paper_id` a line is expected, no header."
    )


def _build_papers(
    folder: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    lists: Mapping[Split, set[str]],
    report: dict[str, Any],
    progress: Progress,
) -> tuple[dict[str, Any], Papers]:
    """Papers, citations, triplets and co-cited pairs; counts for ``corpus.json``."""
    table = inputs.papers
    assert table is not None
    work = folder / WORK
    work.mkdir()
    memory = read_size(settings.memory)
    database = int(max(memory - BASE_MEMORY, memory * 0.25) * DATABASE_SHARE)
    with running(work, database, settings.threads) as engine:
        audit = Audit("papers", settings.max_bad_rows)
        with progress.stage("papers") as stage:
            to = folder / "papers.parquet"
            papers = write_papers(table, table.rows(), to, work, engine, audit, stage)
        report["papers"] = audit.as_dict()
        if inputs.data is not None:
            counts = build_specter(folder, settings, inputs.data, lists, papers, report, progress)
        else:
            if inputs.fulltexts is None:
                # Told before the mining. With full texts the ids may be those of documents.
                for split, ids in lists.items():
                    if ids and ids.isdisjoint(papers.key):
                        raise UserError(_names_nobody(inputs, split, ids))
            refuse_shared(lists)
            shares = settings.dev_share, settings.test_share
            split = assign_splits(papers.ids, settings.seed, *shares, lists)
            given = folder, work, settings, inputs
            counts = build_plain(*given, lists, papers, split, report, progress, engine, database)
            if settings.mines_cocitations:
                counts |= build_cocitations(*given, papers, split, report, progress, engine)
    shutil.rmtree(work)
    totals = {"papers": len(papers.ids), "papers_with_text": int(papers.usable.sum())}
    return totals | counts, papers


def _build_documents(
    folder: Path,
    settings: PrepareSettings,
    table: Table,
    lists: Mapping[Split, set[str]],
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Documents; counts for ``corpus.json``."""
    refuse_shared(lists)
    audit = Audit("fulltexts", settings.max_bad_rows)
    shares = settings.dev_share, settings.test_share
    shape = settings.format if settings.format in ("s2orc", "unarxive") else None
    with progress.stage("fulltexts") as stage:
        counts, unknown = write_documents(
            table, folder, settings.seed, shares, lists, audit, stage, shape
        )
    report["fulltexts"] = audit.as_dict() | {
        "documents": counts["documents_by_split"],
        "ids that name no document": {
            split: {"count": len(ids), "examples": sorted(ids)[:EXAMPLES]}
            for split, ids in unknown.items()
        },
    }
    return counts


def _build_tasks(
    folder: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Tasks; counts for ``corpus.json``."""
    assert inputs.tasks is not None
    report["tasks"] = {"tasks": len(inputs.tasks.tasks), "notes": list(inputs.tasks.notes)}
    work = folder / WORK
    work.mkdir()
    given = settings.task_building, settings.dev_share, settings.seed, settings.max_bad_rows
    counts = build_tasks(folder, work, inputs.tasks.tasks, inputs.records, *given, report, progress)
    work.rmdir()
    return counts


def _add_tokens(
    corpus: Corpus,
    settings: PrepareSettings,
    tokenizer: TextTokenizer | None,
    progress: Progress,
) -> None:
    """The token stores that are missing beside those that are there."""
    if tokenizer is None:
        return
    info, name = corpus.info, str(settings.tokenizer)
    key = tokenizer.key(settings.input_format)
    if corpus.n_papers and not corpus.has_tokens(key):
        to = corpus.folder / "tokens" / key
        with (
            progress.stage("tokens", corpus.n_papers, "papers") as stage,
            written_whole(to, "store.json") as folder,
        ):
            papers = read_papers(corpus.folder / "papers.parquet")
            store = write_token_store(
                folder, tokenizer, settings.input_format, papers, name=name, on_batch=stage.reach
            )
        info["token_stores"][key] = {
            name: store.info[name] for name in ("tokenizer", "form", "tokens", "vocab_size")
        }
        save_info(corpus.folder, info)
    if settings.sentence_tokens and not corpus.has_sentenced_tokens(key):
        _add_sentenced_tokens(corpus, settings, tokenizer, progress)
    if corpus.n_citing_sentences and not corpus.has_sentence_pair_tokens(key):
        _add_sentence_pair_tokens(corpus, settings, tokenizer, progress)
    if corpus.has_tasks and not corpus.tasks().has_tokens(key):
        _add_task_tokens(corpus, settings, tokenizer, progress)
    if corpus.n_documents and not corpus.has_document_tokens(tokenizer):
        to = corpus.folder / "document_tokens" / tokenizer.document_key
        with (
            progress.stage("document tokens", corpus.n_documents, "documents") as stage,
            written_whole(to, "store.json") as folder,
        ):
            texts = corpus.document_texts()
            store = write_document_store(folder, tokenizer, texts, name=name, on_batch=stage.reach)
        info["document_stores"][tokenizer.document_key] = {
            name: store.info[name] for name in ("tokenizer", "tokens", "vocab_size")
        }
        save_info(corpus.folder, info)


def _add_task_tokens(
    corpus: Corpus, settings: PrepareSettings, tokenizer: TextTokenizer, progress: Progress
) -> None:
    """The texts of tasks."""
    key, tasks = tokenizer.key(settings.input_format), corpus.tasks()
    given: tuple[Any, ...] = (tokenizer, settings.input_format, tasks.texts())
    with (
        progress.stage("tokens of tasks", tasks.n_texts, "texts") as stage,
        written_whole(corpus.folder / "task_tokens" / key, "store.json") as folder,
    ):
        name = str(settings.tokenizer)
        store = write_task_store(folder, *given, name=name, on_batch=stage.reach)
    corpus.info.setdefault("task_stores", {})[key] = {
        name: store.info[name] for name in ("tokenizer", "form", "tokens", "vocab_size")
    }
    save_info(corpus.folder, corpus.info)


def _add_sentenced_tokens(
    corpus: Corpus, settings: PrepareSettings, tokenizer: TextTokenizer, progress: Progress
) -> None:
    """The papers once more, with the places of their abstracts' sentences."""
    cut_abstracts(corpus, progress)
    key = tokenizer.key(settings.input_format)
    given: tuple[Any, ...] = (tokenizer, settings.input_format, corpus.sentences())
    with (
        progress.stage("tokens of sentences", corpus.n_papers, "papers") as stage,
        written_whole(corpus.folder / "sentenced_tokens" / key, "store.json") as folder,
    ):
        store = write_sentence_store(
            folder, *given, name=str(settings.tokenizer), on_batch=stage.reach
        )
    corpus.info.setdefault("sentenced_stores", {})[key] = {
        name: store.info[name] for name in ("tokenizer", "form", "tokens", "sentences")
    }
    save_info(corpus.folder, corpus.info)


def _add_sentence_pair_tokens(
    corpus: Corpus, settings: PrepareSettings, tokenizer: TextTokenizer, progress: Progress
) -> None:
    """The citing sentences, each read as a title without an abstract: as the encoder will read."""
    key = tokenizer.key(settings.input_format)
    texts = corpus.citing_sentences()
    papers = ({"paper": i, "title": text, "abstract": None} for i, text in enumerate(texts))
    with (
        progress.stage("tokens of citing sentences", corpus.n_citing_sentences) as stage,
        written_whole(corpus.folder / SENTENCE_PAIR_TOKENS / key, "store.json") as folder,
    ):
        given: tuple[Any, ...] = (tokenizer, settings.input_format, papers)
        store = write_token_store(
            folder, *given, name=str(settings.tokenizer), on_batch=stage.reach
        )
    corpus.info.setdefault("sentence_pair_stores", {})[key] = {
        name: store.info[name] for name in ("tokenizer", "form", "tokens", "vocab_size")
    }
    save_info(corpus.folder, corpus.info)


def cut_abstracts(corpus: Corpus, progress: Progress) -> None:
    """Cut the abstracts of a corpus into sentences, unless they are."""
    if not corpus.has_sentences:
        with progress.stage("sentences", corpus.n_papers, "papers") as stage:
            papers = read_papers(corpus.folder / "papers.parquet")
            write_sentences(corpus.folder, papers, stage.reach)
