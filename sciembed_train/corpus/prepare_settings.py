"""The settings of `prepare`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sciembed_train.corpus.citations.citation_columns import FIELDS as CITATION_FIELDS
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.neighbour_settings import NeighbourMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.readers.records.plain_papers import FIELDS as PAPER_FIELDS
from sciembed_train.corpus.sql_engine import read_size
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

Format = Literal[
    "auto",
    "plain",
    "specter",
    "semantic_scholar",
    "openalex",
    "crossref",
    "pubmed",
    "bibtex",
    "ris",
    "arxiv",
    "s2orc",
    "unarxive",
    "scirepeval",
]
FORMATS: tuple[Format, ...] = get_args(Format)
COLUMNS = (*PAPER_FIELDS, *CITATION_FIELDS)
TripletsFrom = Literal["citations", "neighbours"]
# Kinds of files that a corpus is made from.
RAW = ("papers", "citations", "pairs", "fulltexts", "contexts", "cocitations", "tasks")


@dataclass(frozen=True)
class CorpusSettings:
    """What a corpus is made of: the files of papers, citations and texts, and what is mined.

    Args:
        papers: a file or folder of papers (``paper_id``, ``title``, ``abstract``), or a dataset of
            the ``datasets`` library.
        citations: a file or folder of citations (``citing``, ``cited``), or a dataset.
        pairs: triplets of your own (``query``, ``positive``, ``negative``), taken in place of mined
            ones.
        fulltexts: documents with a field ``text``, S2ORC, unarXive, or ``.txt`` with one document
            a line: a file, a folder with those within it, or a dataset.
        contexts: citing sentences (``text``, ``cited_ids``), mined for pairs of co-cited papers.
        cocitations: pairs of papers cited together (``paper_a``, ``paper_b``, ``count``).
        tasks: a list of tasks, SciRepEval's ``tasks_config.json`` or the same in YAML, or a folder
            that holds one and their data.
        format: of the papers: ``auto`` recognises it by names and fields, ``plain`` takes rows with
            a column for each field, ``specter`` SPECTER's own files. Full texts are recognised by
            their fields; ``s2orc`` or ``unarxive`` refuses others.
        columns: names of columns, by field: paper_id, title, abstract, year, references; citing
            and cited (names or numbers from 1); common names are known.
        merge_duplicates: papers of one title and year are one paper, as those of one text are.
        triplets_from: ``citations`` for SPECTER's triplets of cited and uncited papers;
            ``neighbours`` for SciNCL's, from an embedding of the citation graph.
        triplets: how triplets are mined from citations.
        neighbour_mining: how they are mined from neighbours.
        cocitation_mining: how pairs of co-cited papers are mined.
        task_building: how the records of tasks become examples.
        dev_share: share of the papers held out as dev queries, and of the documents and of the
            texts of tasks that have no dev records.
        test_share: share of the papers held out as test queries, and of the documents.
        dev_ids: a file of ids, one a line, of papers or documents held out as dev instead of a
            share.
        test_ids: likewise, as test.
        exclude: what is in no training example, such as the papers of a benchmark: a file of ids,
            DOIs or titles, one a line; a file of papers; the folder of a benchmark that `evaluate`
            reads; or a list of these.
        part_tokens: also tokenise titles and abstracts, each alone, for pairs of them.
        seed: of the split and of every choice; in training also of the order of the examples, of
            what is drawn of them, and of dropout.
        memory: memory that preparing stays under; the papers' ids are held whatever it is.
        threads: of preparing; null for one per core.
        max_bad_rows: malformed rows of a file that are skipped; more of them end the command.

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
    columns: dict[str, str] = field(default_factory=dict)
    merge_duplicates: bool = False
    triplets_from: TripletsFrom = "citations"
    triplets: TripletMining = TripletMining()  # noqa: RUF009 - frozen
    neighbour_mining: NeighbourMining = NeighbourMining()  # noqa: RUF009 - frozen
    cocitation_mining: CocitationMining = CocitationMining()  # noqa: RUF009 - frozen
    task_building: TaskBuilding = TaskBuilding()  # noqa: RUF009 - frozen
    dev_share: float = 0.05
    test_share: float = 0.05
    dev_ids: str | Path | None = None
    test_ids: str | Path | None = None
    exclude: list[str] | str = ""
    part_tokens: bool = False
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
        for name, least in (("seed", 0), ("max_bad_rows", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} must be {least} or more; got {value}.")
        if unknown := [name for name in self.columns if name not in COLUMNS]:
            raise UserError(
                f"columns (--map) names {unknown[0]!r}; the fields are {', '.join(COLUMNS)}."
            )
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; it is one of {', '.join(FORMATS)}.")
        if self.triplets_from not in (known := get_args(TripletsFrom)):
            raise UserError(
                f"triplets_from is {self.triplets_from!r}; it is one of {', '.join(known)}."
            )
        read_size(self.memory)

    @property
    def exclusions(self) -> list[str]:
        """The places of ``exclude``."""
        places = self.exclude if isinstance(self.exclude, list) else [self.exclude]
        return [str(place) for place in places if str(place)]

    @property
    def mines_cocitations(self) -> bool:
        """Whether pairs of co-cited papers are asked for."""
        has_files = self.contexts is not None or self.cocitations is not None
        return has_files or self.cocitation_mining.cocitations_from != "given"

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
        together: share mining and tokenising with other processes that do the same.

    Raises:
        UserError: a value is out of its range, or files do not belong together.
    """

    to: str | Path | None = None
    tokenizer: str | Path | None = None
    input_format: InputFormat = InputFormat()  # noqa: RUF009 - frozen
    sentence_tokens: bool = False
    together: bool = False

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
            if self.format not in ("auto", "s2orc", "unarxive"):
                raise UserError(f"--format {self.format} is one of papers: give --papers too.")
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
        if self.part_tokens and (self.papers is None or self.tokenizer is None):
            raise UserError(
                "Tokens of titles and abstracts (--part-tokens, or a recipe that pairs them) are "
                "made of papers by a tokenizer: give --papers and --tokenizer."
            )
        if self.sentence_tokens and (self.papers is None or self.tokenizer is None):
            raise UserError(
                "Tokens of sentences (--sentence-tokens, or a recipe whose encoder's pooling is "
                "sentences) are made of papers by a tokenizer: give --papers and --tokenizer."
            )
