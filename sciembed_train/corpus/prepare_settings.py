"""What `prepare` is asked for, and the inputs it opens for that."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sciembed_train.corpus.fulltext.documents import open_fulltexts
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.readers.files import sha256
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import read_size
from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, Split
from sciembed_train.corpus.tasks.task_list import TaskList, read_tasks
from sciembed_train.corpus.tasks.task_sources import Records, open_records, source_files
from sciembed_train.corpus.tasks.task_types import TaskBuilding, TaskSplit, task_fingerprint
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

Format = Literal["auto", "plain", "specter", "s2orc", "unarxive"]
FORMATS: tuple[Format, ...] = get_args(Format)
FULLTEXTS_VERSION = 1  # of how full texts are read; another one makes a corpus anew
COCITATIONS_VERSION = 3  # of how co-cited pairs are mined, likewise
TASKS_VERSION = 1  # of how tasks are read and drawn from, likewise
# Kinds of files that a corpus is made from.
RAW = ("papers", "citations", "pairs", "fulltexts", "contexts", "cocitations", "tasks")
SPECTER_LISTS: dict[Split, str] = {"train": "train.txt", "dev": "val.txt", "test": "test.txt"}


@dataclass(frozen=True)
class CorpusSettings:
    """What a corpus is made of: the files of papers, citations and texts, and what is mined.

    Args:
        papers: a file or folder of papers (``paper_id``, ``title``, ``abstract``), or a dataset of
            the ``datasets`` library.
        citations: likewise, of citations (``citing``, ``cited``).
        pairs: triplets of your own (``query``, ``positive``, ``negative``), taken in place of mined
            ones.
        fulltexts: documents with a field ``text``, S2ORC, unarXive, or ``.txt`` with one document
            a line: a file, a folder with those within it, or a dataset.
        contexts: citing sentences (``text``, ``cited_ids``), mined for pairs of co-cited papers.
        cocitations: pairs of papers cited together (``paper_a``, ``paper_b``, ``count``).
        tasks: a list of tasks, SciRepEval's ``tasks_config.json`` or the same in YAML, or a folder
            that holds one and their data.
        format: ``specter`` for SPECTER's own files; ``auto`` recognises them by their names. Full
            texts are recognised by their fields; ``s2orc`` or ``unarxive`` refuses others.
        triplets: how triplets are mined.
        cocitation_mining: how pairs of co-cited papers are mined.
        task_building: how the records of tasks become examples.
        dev_share: share of the papers held out as dev queries, and of the documents and of the
            texts of tasks that have no dev records.
        test_share: share of the papers held out as test queries, and of the documents.
        dev_ids: a file of ids, one a line, of papers or documents held out as dev instead of a
            share.
        test_ids: likewise, as test.
        exclude_ids: a file of ids of papers that are in no co-cited pair: those of evaluation sets.
        seed: of the split and of every choice; in training also of the order of the examples, of
            what is drawn of them, and of dropout.
        memory: memory that preparing stays under; the papers' ids are held whatever it is.
        threads: of preparing; null for one per core.
        max_bad_rows: malformed rows of a file that are skipped; one more ends the command.

    Raises:
        UserError: a value is out of its range.
    """

    papers: str | Path | None = None
    _: KW_ONLY
    citations: str | Path | None = None
    pairs: str | Path | None = None
    fulltexts: str | Path | None = None
    contexts: str | Path | None = None
    cocitations: str | Path | None = None
    tasks: str | Path | None = None
    format: Format = "auto"
    triplets: TripletMining = TripletMining()  # noqa: RUF009 - frozen
    cocitation_mining: CocitationMining = CocitationMining()  # noqa: RUF009 - frozen
    task_building: TaskBuilding = TaskBuilding()  # noqa: RUF009 - frozen
    dev_share: float = 0.05
    test_share: float = 0.05
    dev_ids: str | Path | None = None
    test_ids: str | Path | None = None
    exclude_ids: str | Path | None = None
    seed: int = 0
    memory: str = "4GB"
    threads: int | None = None
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        for name in ("dev_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be 0 or more and below 1; got {getattr(self, name)}.")
        if self.dev_share + self.test_share >= 1:
            raise UserError("dev_share and test_share together leave no paper for training.")
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more; got {self.seed}.")
        if self.max_bad_rows < 0:
            raise UserError(f"max_bad_rows must be 0 or more; got {self.max_bad_rows}.")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be 1 or more; got {self.threads}.")
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; it is one of {', '.join(FORMATS)}.")
        read_size(self.memory)

    @property
    def mines_cocitations(self) -> bool:
        """Whether pairs of co-cited papers are asked for."""
        given = self.contexts is not None or self.cocitations is not None
        return given or self.cocitation_mining.cocitations_from != "given"

    @property
    def raw_files(self) -> dict[str, str]:
        """The files that a corpus is made from, by their kind."""
        files = {kind: getattr(self, kind) for kind in RAW}
        return {kind: str(path) for kind, path in files.items() if path is not None}


@dataclass(frozen=True)
class PrepareSettings(CorpusSettings):
    """What `prepare` reads, mines and writes.

    Args:
        to: the corpus folder to make.
        tokenizer: a folder or hub name; None leaves tokenising to a later run.
        input_format: how title and abstract become one text.
        sentence_tokens: also tokenise papers with the places of their abstracts' sentences, for
            models that compare papers sentence by sentence.

    Raises:
        UserError: a value is out of its range, or files do not belong together.
    """

    to: str | Path | None = None
    tokenizer: str | Path | None = None
    input_format: InputFormat = InputFormat()  # noqa: RUF009 - frozen
    sentence_tokens: bool = False

    @classmethod
    def of(cls, corpus: CorpusSettings, **settings: Any) -> PrepareSettings:
        """The settings of a corpus, and where and how it is to be written."""
        names = [field.name for field in dataclasses.fields(CorpusSettings)]
        return cls(**{name: getattr(corpus, name) for name in names}, **settings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.papers is None:
            if self.fulltexts is None and self.tasks is None:
                raise UserError(
                    "prepare needs --papers, a file of papers, --fulltexts, a file or folder of "
                    "full texts, or --tasks, a list of tasks."
                )
            for name in ("citations", "pairs", "contexts", "cocitations"):
                if getattr(self, name) is not None:
                    raise UserError(f"--{name} names papers: give --papers too, or leave it out.")
            for name in ("dev_ids", "test_ids"):
                if getattr(self, name) is not None and self.fulltexts is None:
                    raise UserError(
                        f"--{name.replace('_', '-')} names papers or documents, and --tasks has "
                        "neither: leave it out. A task's `data_files` may have a file of dev."
                    )
            if self.format == "specter":
                raise UserError("--format specter is one of papers: give --papers too.")
        if self.cocitation_mining.cocitations_from == "references" and self.citations is None:
            raise UserError(
                "cocitations_from is references, and there are no references: give --citations."
            )
        if self.cocitation_mining.cocitations_from == "fulltexts":
            if self.fulltexts is None or self.papers is None:
                raise UserError(
                    "cocitations_from is fulltexts: give --fulltexts, and --papers with the texts "
                    "of the works that they cite."
                )
            if self.contexts is not None:
                raise UserError(
                    "Contexts come from --contexts or, with cocitations_from fulltexts, from "
                    "--fulltexts; give one of them."
                )
        mining = self.cocitation_mining
        of_sentences = self.contexts is not None or mining.cocitations_from == "fulltexts"
        if mining.sentence_pairs != "none" and not of_sentences:
            raise UserError(
                f"sentence_pairs is {mining.sentence_pairs}, and there are no citing sentences: "
                "give --contexts F, or --fulltexts F with --cocitations-from fulltexts."
            )
        if self.exclude_ids is not None and not self.mines_cocitations:
            raise UserError(
                "--exclude-ids keeps papers out of co-cited pairs, and none are mined: give "
                "--contexts, --cocitations or --cocitations-from references too."
            )
        if self.sentence_tokens and (self.papers is None or self.tokenizer is None):
            raise UserError(
                "Tokens of sentences (--sentence-tokens, or a recipe whose encoder's pooling is "
                "sentences) are made of papers by a tokenizer: give --papers and --tokenizer."
            )


@dataclass
class Inputs:
    """The opened inputs, and what they and the settings are known by."""

    papers: Table | None
    citations: Table | None
    pairs: Table | None
    fulltexts: Table | None
    contexts: Table | None
    cocitations: Table | None
    data: Path | None  # SPECTER's data.json
    lists: dict[Split, Path]  # files of query ids
    tasks: TaskList | None
    records: list[dict[TaskSplit, Records]]  # of each task
    identity: dict[str, Any]


def open_inputs(settings: PrepareSettings) -> Inputs:
    """Open every input, so that a mistyped name is told before anything is read.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    lists: dict[Split, Path] = {}
    papers = citations = data = None
    specter = False
    if settings.papers is not None:
        metadata = _specter_metadata(Path(settings.papers), settings.format)
        specter = metadata is not None
        if metadata is not None:
            data = Path(settings.citations or metadata.parent / "data.json")
            lists = _specter_lists(metadata, data)
            papers = Table(metadata, "papers")
        else:
            papers = Table(settings.papers, "papers")
            citations = Table(settings.citations, "citations") if settings.citations else None
    given: dict[Split, str | Path | None] = {"dev": settings.dev_ids, "test": settings.test_ids}
    for split, path in given.items():
        if path is not None:
            lists[split] = Path(path)
            if not lists[split].is_file():
                raise UserError(f"{path}: there is no such file (ids of {split} queries).")
    pairs = Table(settings.pairs, "triplets") if settings.pairs else None
    fulltexts = open_fulltexts(settings.fulltexts) if settings.fulltexts else None
    contexts = cocitations = None
    if settings.contexts is not None:
        contexts = Table(settings.contexts, "contexts", needed=("cited_ids",))
    if settings.cocitations is not None:
        cocitations = Table(settings.cocitations, "co-citations", needed=("paper_a",))
    if specter and settings.mines_cocitations:
        raise UserError(
            f"{settings.papers} is in SPECTER's own format, from which no co-cited pairs are "
            "mined. Give its metadata.json as --papers with --format plain."
        )
    tasks = read_tasks(settings.tasks) if settings.tasks is not None else None
    records = [open_records(task) for task in tasks.tasks] if tasks is not None else []
    tables = {"papers": papers, "citations": citations, "pairs": pairs, "fulltexts": fulltexts}
    tables |= {"contexts": contexts, "cocitations": cocitations}
    sources = {name: table.checksums() for name, table in tables.items() if table is not None}
    files = {f"{split} ids": path for split, path in lists.items()}
    if data is not None:
        files["relations"] = data
    if settings.exclude_ids is not None:
        files["excluded ids"] = Path(settings.exclude_ids)
        if not files["excluded ids"].is_file():
            raise UserError(f"{settings.exclude_ids}: there is no such file (ids left out).")
    for name, path in files.items():
        sources[name] = [{"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}]
    if tasks is not None:
        sources["tasks"] = [
            file
            for task, parts in zip(tasks.tasks, records, strict=True)
            for file in source_files(parts, task.name)
        ]
    identity = {
        "version": CORPUS_VERSION,
        "sources": sources,
        "format": "specter" if specter else "plain",
        "triplets": dataclasses.asdict(settings.triplets),
        "dev_share": settings.dev_share,
        "test_share": settings.test_share,
        "seed": settings.seed,
    }
    # Corpora that were made before there were full texts are still known by what they were.
    if fulltexts is not None:
        input_format = settings.format if settings.format in ("s2orc", "unarxive") else "any"
        identity["fulltexts"] = {"version": FULLTEXTS_VERSION, "format": input_format}
    if settings.mines_cocitations:
        mining = dataclasses.asdict(settings.cocitation_mining)
        identity["cocitations"] = {"version": COCITATIONS_VERSION, **mining}
    if tasks is not None:
        identity["tasks"] = {
            "version": TASKS_VERSION,
            "said": task_fingerprint(tasks.tasks),
            **dataclasses.asdict(settings.task_building),
        }
    opened = papers, citations, pairs, fulltexts, contexts, cocitations
    return Inputs(*opened, data, lists, tasks, records, identity)


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
