"""What the steps of building a corpus folder share: the opened inputs, and the job."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.exclusion_files import ExclusionPlace, open_place
from sciembed_train.corpus.exclusions import Exclusions
from sciembed_train.corpus.fulltext.fulltext_records import FIELDS
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import Format, PrepareSettings
from sciembed_train.corpus.readers.files import sha256
from sciembed_train.corpus.readers.registry import FULLTEXT_READERS, PAPER_READERS
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.shared_work import Share, SharedWork, alone
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, Split
from sciembed_train.corpus.tasks.task_list import TaskList, read_tasks
from sciembed_train.corpus.tasks.task_sources import Records, open_records, source_files
from sciembed_train.corpus.tasks.task_types import TaskSplit, task_fingerprint
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.progress import Progress, Stage

FULLTEXTS_VERSION = 1  # of how full texts are read; a change rebuilds corpora
COCITATIONS_VERSION = 3  # of how co-cited pairs are mined, likewise
NEIGHBOURS_VERSION = 1  # of how triplets are mined from neighbours, likewise
TASKS_VERSION = 1  # of how tasks are read and drawn from, likewise
SPECTER_LISTS: dict[Split, str] = {"train": "train.txt", "dev": "val.txt", "test": "test.txt"}


@dataclass(kw_only=True)
class Inputs:
    """The opened inputs, and the identity of inputs and settings."""

    papers: Table | None = None
    citations: Table | None = None
    pairs: Table | None = None
    fulltexts: Table | None = None
    contexts: Table | None = None
    cocitations: Table | None = None
    data: Path | None = None  # SPECTER's data.json
    lists: dict[Split, Path] = field(default_factory=dict)  # files of query ids
    tasks: TaskList | None = None
    records: list[dict[TaskSplit, Records]] = field(default_factory=list)  # of each task
    exclusions: list[ExclusionPlace] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)


def open_inputs(settings: PrepareSettings) -> Inputs:
    """Open every input, so that a mistyped name is an error before anything is read.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    inputs = Inputs()
    metadata = None
    if settings.papers is not None:
        metadata = _specter_metadata(Path(settings.papers), settings.format)
        if metadata is not None:
            inputs.data = Path(settings.citations or metadata.parent / "data.json")
            inputs.lists = _specter_lists(metadata, inputs.data)
        inputs.papers = Table(metadata or settings.papers, "papers", readers=PAPER_READERS)
        if metadata is None and settings.citations:
            inputs.citations = Table(settings.citations, "citations")
    held_out: dict[Split, str | Path | None] = {"dev": settings.dev_ids, "test": settings.test_ids}
    for split, path in held_out.items():
        if path is not None:
            inputs.lists[split] = _id_file(path, f"ids of {split} queries")
    if settings.pairs:
        inputs.pairs = Table(settings.pairs, "triplets")
    if settings.fulltexts:
        inputs.fulltexts = open_fulltexts(settings.fulltexts)
    if settings.contexts is not None:
        inputs.contexts = Table(settings.contexts, "contexts", needed=("cited_ids",))
    if settings.cocitations is not None:
        inputs.cocitations = Table(settings.cocitations, "co-citations", needed=("paper_a",))
    if metadata is not None and settings.mines_cocitations:
        raise UserError(
            f"{settings.papers} is in SPECTER's own format, from which no co-cited pairs are "
            "mined. Give its metadata.json as --papers with --format plain."
        )
    if settings.triplets_from == "neighbours":
        _check_neighbours(settings, metadata)
    if settings.tasks is not None:
        inputs.tasks = read_tasks(settings.tasks)
        inputs.records = [open_records(task) for task in inputs.tasks.tasks]
    inputs.exclusions = [open_place(place) for place in settings.exclusions]
    inputs.identity = _identity(settings, inputs)
    return inputs


def _identity(settings: PrepareSettings, inputs: Inputs) -> dict[str, Any]:
    """The files and settings that decide what a corpus holds."""
    names = ("papers", "citations", "pairs", "fulltexts", "contexts", "cocitations")
    tables = {name: getattr(inputs, name) for name in names}
    sources = {name: table.checksums() for name, table in tables.items() if table is not None}
    files = {f"{split} ids": path for split, path in inputs.lists.items()}
    if inputs.data is not None:
        files["relations"] = inputs.data
    for name, path in files.items():
        sources[name] = [{"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}]
    if inputs.exclusions:
        sources["excluded"] = [file for place in inputs.exclusions for file in place.checksums()]
    if inputs.tasks is not None:
        sources["tasks"] = [
            file
            for task, parts in zip(inputs.tasks.tasks, inputs.records, strict=True)
            for file in source_files(parts, task.name)
        ]
    identity = {
        "version": CORPUS_VERSION,
        "sources": sources,
        "format": "plain" if inputs.data is None else "specter",
        "triplets": dataclasses.asdict(settings.triplets),
        "dev_share": settings.dev_share,
        "test_share": settings.test_share,
        "seed": settings.seed,
    }
    for name in ("columns", "merge_duplicates"):
        if getattr(settings, name):
            identity[name] = getattr(settings, name)
    if settings.format not in ("auto", "plain", "specter"):
        identity["format"] = settings.format
    if settings.triplets_from == "neighbours":
        mining = dataclasses.asdict(settings.neighbour_mining)
        identity["triplets"] = {"from": "neighbours", "version": NEIGHBOURS_VERSION, **mining}
    # Corpora that were made before there were full texts keep their identity.
    if inputs.fulltexts is not None:
        input_format = settings.format if settings.format in ("s2orc", "unarxive") else "any"
        identity["fulltexts"] = {"version": FULLTEXTS_VERSION, "format": input_format}
    if settings.mines_cocitations:
        mining = dataclasses.asdict(settings.cocitation_mining)
        identity["cocitations"] = {"version": COCITATIONS_VERSION, **mining}
    if inputs.tasks is not None:
        identity["tasks"] = {
            "version": TASKS_VERSION,
            "said": task_fingerprint(inputs.tasks.tasks),
            **dataclasses.asdict(settings.task_building),
        }
    return identity


def _check_neighbours(settings: PrepareSettings, metadata: Path | None) -> None:
    """Raise `UserError` where there is no graph of citations to take neighbours from."""
    if metadata is not None:
        raise UserError(
            f"{settings.papers} is in SPECTER's own format, whose triplets follow from its counts, "
            "and triplets_from is neighbours. Give its metadata.json as --papers with --format "
            "plain, and --citations."
        )
    if settings.papers is not None and settings.citations is None and settings.pairs is None:
        raise UserError(
            "triplets_from is neighbours, those of papers in the graph of their citations, and "
            "there are no citations: give --citations."
        )


def _id_file(path: str | Path, purpose: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"{path}: {why_no_file(path)} ({purpose}).")
    return Path(path)


def open_fulltexts(source: str | Path) -> Table:
    """The table of full texts of a file or folder, searched deep; a prepared corpus is refused."""
    if (Path(source) / "corpus.json").is_file():
        raise UserError(
            f"{source} is a corpus that prepare made, not full texts. Give it to fit and show as "
            "--data.corpus; prepare takes the files it was made of."
        )
    return Table(
        source,
        "full texts",
        readers=FULLTEXT_READERS,
        needed=("text", "title", "abstract"),
        record_keys=FIELDS,
        deep=True,
    )


def _specter_metadata(source: Path, format: Format) -> Path | None:
    """The metadata.json of a folder in SPECTER's own format; None for any other input."""
    seen = (source / "data.json").is_file() and (source / "metadata.json").is_file()
    if format == "specter" or (format == "auto" and seen):
        return source / "metadata.json" if source.is_dir() else source
    return None


def _specter_lists(metadata: Path, data: Path) -> dict[Split, Path]:
    """The files of query ids beside SPECTER's metadata.json."""
    for path in (metadata, data):
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such file. SPECTER's format is data.json and "
                "metadata.json, with train.txt, val.txt and test.txt beside them."
            )
    beside: dict[Split, Path] = {
        split: metadata.parent / name for split, name in SPECTER_LISTS.items()
    }
    lists: dict[Split, Path] = {s: path for s, path in beside.items() if path.is_file()}
    if not lists:
        raise UserError(
            f"{metadata.parent} has no train.txt, val.txt or test.txt, which say which "
            "queries of data.json to train on. Write one query id a line."
        )
    return lists


@dataclass(kw_only=True)
class BuildJob:
    """A corpus folder that is being built.

    ``lists`` are the ids of queries or documents of a split; the steps fill ``report``, which
    becomes ``report.json``, and ``query_papers``, a part of ``corpus.json``.
    """

    folder: Path
    settings: PrepareSettings
    inputs: Inputs
    lists: Mapping[Split, set[str]]
    progress: Progress
    report: dict[str, Any] = field(default_factory=dict)
    query_papers: dict[str, Any] = field(default_factory=dict)
    exclusions: Exclusions = field(default_factory=Exclusions)
    shared: SharedWork | None = None  # with other processes

    def share(self, stage: Stage) -> Share:
        """A function that does a task's units, with other processes if asked; it tells a stage."""
        do = alone if self.shared is None else self.shared.share
        return lambda task: do(task, stage.reach)

    @property
    def work(self) -> Path:
        """A folder for intermediate files; it is removed when the corpus is complete."""
        return self.folder / "work"

    def audit(self, name: str) -> Audit:
        """An account of the rows of an input."""
        return Audit(name, self.settings.max_bad_rows, getattr(self.inputs, name, None))


@dataclass(kw_only=True)
class PaperJob(BuildJob):
    """A corpus folder whose papers have been read; ``split`` ``[P]`` is that of each as a query."""

    engine: Engine
    papers: Papers
    split: NDArray[np.int8]
