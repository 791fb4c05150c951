"""A corpus folder made from a user's files, or completed with the tokens of a tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import count_and_examples
from sciembed_train.corpus.build_job import BuildJob, Inputs, PaperJob, open_inputs
from sciembed_train.corpus.data_page.page import NAME as PAGE
from sciembed_train.corpus.data_page.page import renew_page, write_page
from sciembed_train.corpus.exclusions import Exclusions
from sciembed_train.corpus.fulltext.documents import write_documents
from sciembed_train.corpus.mining.build_cocitations import build_cocitations
from sciembed_train.corpus.mining.build_triplets import build_margin_triplets, build_triplets
from sciembed_train.corpus.mining.graph_embedding import check_installed
from sciembed_train.corpus.mining.triplet_mining import TripletTask
from sciembed_train.corpus.paper_writing import write_papers
from sciembed_train.corpus.prepare_settings import PAPER_FIELDS, PrepareSettings
from sciembed_train.corpus.query_papers import query_papers
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.shared_work import SharedWork, Task, remove_abandoned
from sciembed_train.corpus.splits import (
    assign_splits,
    check_disjoint,
    read_id_list,
    unknown_ids_error,
)
from sciembed_train.corpus.sql_engine import read_size, running
from sciembed_train.corpus.store.corpus_files import (
    CORPUS_VERSION,
    Split,
    save_excluded,
    save_first_of_text,
    save_info,
    save_paper_splits,
    save_titles,
    written_whole,
)
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.tasks.build_tasks import build_tasks
from sciembed_train.corpus.token_task import TokenTask
from sciembed_train.corpus.token_writing import add_tokens
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.text.tokenizer import TextTokenizer

# Memory of the interpreter and its libraries, and the database's share of the rest: its limit does
# not count everything it holds.
BASE_MEMORY = 600 * 10**6
DATABASE_SHARE = 0.5


def prepare(settings: PrepareSettings, progress: Progress | None = None) -> Corpus:
    """Make a corpus folder, or add a tokenizer's tokens to an existing one.

    A folder at ``to`` made from the same files with the same settings is kept, and only missing
    tokens are added; any other corpus is replaced when the new one is complete, which reuses the
    tokens of unchanged papers.

    Raises:
        UserError: the input is wrong, nothing can be mined, or ``to`` cannot be written.
    """
    progress = progress or Progress(quiet=True)
    if settings.to is None:
        raise UserError("prepare needs --to, the corpus folder to make.")
    to = Path(settings.to)
    inputs = open_inputs(settings)
    tokenizer = TextTokenizer.load(settings.tokenizer) if settings.tokenizer is not None else None
    if not settings.together:
        corpus = _prepare(to, settings, inputs, tokenizer, progress, None)
        remove_abandoned(to)
        return corpus
    work = _shared_work(to, settings, inputs, tokenizer, progress)
    with work.leading():
        return _prepare(to, settings, inputs, tokenizer, progress, work)


def _prepare(
    to: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    tokenizer: TextTokenizer | None,
    progress: Progress,
    work: SharedWork | None,
) -> Corpus:
    """As `prepare`, sharing the ``work`` with other processes."""
    corpus = _existing(to, inputs.identity)
    if corpus is None:
        earlier = _earlier(to)
        with written_whole(to) as folder:
            _build(folder, settings, inputs, progress, work)
            corpus = Corpus.open(folder)
            add_tokens(corpus, settings, tokenizer, progress, earlier, work)
            with progress.stage(PAGE):
                write_page(corpus)
    else:
        progress.print(f"{to} is already made from these files with these settings.")
        add_tokens(corpus, settings, tokenizer, progress, work=work)
        renew_page(corpus)
    return Corpus.open(to)


def _shared_work(
    to: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    tokenizer: TextTokenizer | None,
    progress: Progress,
) -> SharedWork:
    """The work shared with other processes that prepare the same corpus."""
    database = _database_memory(settings)

    def triplets(folder: Path, facts: Mapping[str, Any]) -> AbstractContextManager[Task]:
        return TripletTask.open(folder, facts, database, settings.threads)

    def tokens(folder: Path, facts: Mapping[str, Any]) -> AbstractContextManager[Task]:
        assert tokenizer is not None
        name, form = str(settings.tokenizer), settings.input_format
        return TokenTask.open(folder, facts, tokenizer, name, form, _earlier(to))

    key = _digest([inputs.identity, tokenizer and tokenizer.key(settings.input_format)])
    return SharedWork(to, key, {"triplets": triplets, "tokens": tokens}, progress)


def _digest(identity: Any) -> str:
    """A hash of what a corpus is made from, as its name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def cached_corpus(
    settings: PrepareSettings, cache: str | Path, progress: Progress | None = None
) -> Corpus:
    """The corpus of these settings from a folder of corpora, prepared there if it is missing.

    Several processes may ask at once: one prepares, the others wait. ``settings.to`` is ignored.
    """
    from filelock import FileLock

    identity = open_inputs(settings).identity
    name = _digest(identity)
    folder = Path(cache) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{name}.lock")
        with lock:
            known = (folder / "corpus.json").is_file()
            corpus = prepare(dataclasses.replace(settings, to=folder), progress)
            if progress is not None and not known:
                report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
                for part in report.values():
                    for line in part.get("read", ()):
                        progress.print(line)
            return corpus
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


def _earlier(to: Path) -> Corpus | None:
    """The corpus that is about to be replaced; None where there is none that can be read."""
    try:
        return Corpus.open(to) if (to / "corpus.json").is_file() else None
    except UserError:
        return None


def _build(
    folder: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    progress: Progress,
    work: SharedWork | None,
) -> None:
    """Write everything but the tokens into an empty folder."""
    lists: dict[Split, set[str]] = {
        split: read_id_list(path) for split, path in inputs.lists.items()
    }
    exclusions = Exclusions(inputs.exclusions)
    job = BuildJob(
        folder=folder,
        settings=settings,
        inputs=inputs,
        lists=lists,
        progress=progress,
        exclusions=exclusions,
        shared=work,
    )
    counts: dict[str, Any] = {"papers": 0, "papers_with_text": 0, "citations": 0}
    named: set[Split] = set()  # splits whose list has a known id
    if inputs.papers is not None:
        counts, named = _build_papers(job)
    if inputs.fulltexts is not None:
        counts |= _build_documents(job)
        unknown = job.report["fulltexts"]["ids that name no document"]
        named |= {split for split, ids in job.lists.items() if unknown[split]["count"] < len(ids)}
    if inputs.tasks is not None:
        counts |= build_tasks(job)
    if inputs.data is None:
        _check_lists(job, named)
    info = _corpus_info(inputs.identity, counts, job.query_papers)
    if exclusions:
        exclusions.check(_kinds(job))
        info["excluded"] = exclusions.as_dict()
        job.report["excluded"] = {**info["excluded"], "notes": exclusions.notes()}
    save_info(folder, job.report, "report.json")
    save_info(folder, info)


def _corpus_info(
    identity: dict[str, Any], counts: dict[str, Any], query_papers: dict[str, Any]
) -> dict[str, Any]:
    """The contents of ``corpus.json``."""
    kinds = ("format", "triplets", "cocitations", "tasks", "dev_share", "test_share", "seed")
    return {
        "version": CORPUS_VERSION,
        "made_by": f"sciembed_train {version('sciembed_train')}",
        "sources": [
            {"kind": kind, **file} for kind, files in identity["sources"].items() for file in files
        ],
        "counts": counts,
        "query_papers": query_papers,
        "settings": {name: identity[name] for name in kinds if name in identity},
        "identity": identity,
        "token_stores": {},
        "document_stores": {},
    }


def _check_lists(job: BuildJob, named: set[Split]) -> None:
    """Raise `UserError` where no id of a list is known."""
    kinds = [kind for kind in _kinds(job) if not kind.startswith("text")]
    for split, ids in job.lists.items():
        if ids and split not in named:
            raise unknown_ids_error(job.inputs.lists[split], ids, kinds)


def _kinds(job: BuildJob) -> list[str]:
    """The kinds of things that the corpus holds, in the singular, for messages."""
    inputs = job.inputs
    source_of_kind = {
        "paper": inputs.papers,
        "document": inputs.fulltexts,
        "text of a task": inputs.tasks,
    }
    return [kind for kind, source in source_of_kind.items() if source is not None]


def _database_memory(settings: PrepareSettings) -> int:
    """The bytes that a database may hold."""
    memory = read_size(settings.memory)
    return int(max(memory - BASE_MEMORY, memory * 0.25) * DATABASE_SHARE)


def _build_papers(job: BuildJob) -> tuple[dict[str, Any], set[Split]]:
    """Write papers, citations, triplets and pairs; counts, and splits whose list names a paper."""
    settings, inputs, work = job.settings, job.inputs, job.work
    assert inputs.papers is not None
    if settings.triplets_from == "neighbours":
        check_installed()
    work.mkdir()
    database = _database_memory(settings)
    with running(work, database, settings.threads) as engine:
        audit = job.audit("papers")
        with job.progress.stage("papers") as stage:
            path = job.folder / "papers.parquet"
            columns = {f: c for f, c in settings.columns.items() if f in PAPER_FIELDS}
            rows = PaperRows(inputs.papers, columns, settings.format)
            papers = write_papers(rows, path, work, engine, audit, stage, settings.merge_duplicates)
        job.lists = {name: set(papers.as_spelled(ids)) for name, ids in job.lists.items()}
        known = papers.number.keys()
        named: set[Split] = {s for s, ids in job.lists.items() if not known.isdisjoint(ids)}
        audit.say_read(*rows.said())
        job.report["papers"] = audit.as_dict()
        if papers.fields_of_study:
            job.report["papers"]["fields of study"] = papers.fields_of_study
        save_first_of_text(job.folder, papers.first)
        assert papers.titles is not None
        save_titles(job.folder, papers.titles)
        with_text, distinct = int(papers.usable.sum()), int(papers.candidates.sum())
        job.exclusions.exclude_papers(papers)
        if papers.excluded.any():
            save_excluded(job.folder, papers.excluded)
        if _kinds(job) == ["paper"]:
            job.exclusions.check(["paper"])
        if inputs.data is not None:
            check_disjoint(job.lists)
            counts = build_margin_triplets(job, papers, inputs.data)
            # SPECTER's own lists name the held-out queries; no other paper is held out.
            split = assign_splits(papers.ids, 0, 0.0, 0.0, job.lists, papers.first)
            save_paper_splits(job.folder, split)
        else:
            if inputs.fulltexts is None:  # with full texts the ids may be those of documents
                _check_lists(job, named)
            check_disjoint(job.lists)
            shares = settings.dev_share, settings.test_share
            split = assign_splits(papers.ids, settings.seed, *shares, job.lists, papers.first)
            save_paper_splits(job.folder, split)
            paper_job = PaperJob(**vars(job), engine=engine, papers=papers, split=split)
            counts = build_triplets(paper_job, database)
            if settings.mines_cocitations:
                counts |= build_cocitations(paper_job)
    job.query_papers |= query_papers(job.folder, papers, ready=inputs.pairs is not None)
    shutil.rmtree(work)
    totals = {
        "papers": len(papers.ids),
        "papers_with_text": with_text,
        "papers_of_another_text": with_text - distinct,
    }
    return totals | counts, named


def _build_documents(job: BuildJob) -> dict[str, Any]:
    """Write the documents; counts for ``corpus.json``."""
    check_disjoint(job.lists)
    counts, unknown = write_documents(job)
    job.report["fulltexts"] |= {
        "documents": counts["documents_by_split"],
        "ids that name no document": {
            split: count_and_examples(ids) for split, ids in unknown.items()
        },
    }
    return counts
