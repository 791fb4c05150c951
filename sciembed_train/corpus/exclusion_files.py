"""Files that name the papers to be kept out of training.

A *list* has an id, a DOI or a title a line. A file of papers, and the folder of a benchmark, name
papers by their ids and titles. The folder is recognised by its files: ``papers``, ``queries``;
``abstracts-*`` and ``test-pid2anns-*`` of CSFCube and the other judged pools; ``paper_metadata_*``
of SciDocs; ``mdcr_*_data``; SciRepEval's list of tasks; or those of a corpus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines, sha256
from sciembed_train.corpus.readers.json_members import iter_json
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.registry import PAPER_READERS, reader_of
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.text.normalise import text_number

TASKS = "scirepeval_tasks.jsonl"
ABSTRACTS = ("abstracts-", "paper_metadata_")  # of CSFCube and its like, of SciDocs
MDCR = r"mdcr_.*_data"
FOLDERS = (
    "`papers` and `queries`, CSFCube, RELISH and the other judged pools, SciDocs, MDCR, "
    "SciRepEval, or a corpus"
)


@dataclass(frozen=True)
class Entry:
    """A paper that is to be kept out.

    Args:
        name: as it is given, for messages.
        ids: that it may have.
        title: the `text_number` of its title; 0 where none is known.
    """

    name: str
    ids: tuple[str, ...]
    title: int = 0


@dataclass(frozen=True)
class ExclusionPlace:
    """A file or a folder of papers that are to be kept out.

    Args:
        path: where it is.
        is_list: whether each entry is a line, which is an id, else a title.
        read: gives its entries.
        checksums: gives name, SHA-256 and size of each of its files.
    """

    path: Path
    is_list: bool
    read: Callable[[], Iterator[Entry]]
    checksums: Callable[[], list[dict[str, Any]]]

    @property
    def name(self) -> str:
        """Its name without the folders above it."""
        return self.path.name or self.path.resolve().name


def open_place(place: str | Path) -> ExclusionPlace:
    """A place, recognised by its files; nothing of it is read yet.

    Raises:
        UserError: there is no such file or folder, or the folder holds no known kind of papers.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(
            f"{place}: {why_no_file(path, 'file or folder')} (--exclude: a list of ids, titles or "
            "DOIs, or the folder of a benchmark)."
        )
    if reader_of(path, PAPER_READERS) is not None:
        table = Table(path, "papers", readers=PAPER_READERS)
        return ExclusionPlace(path, False, partial(_papers, table), table.checksums)
    return ExclusionPlace(path, True, partial(_lines, path), partial(_checksums, [path]))


def _open_folder(folder: Path) -> ExclusionPlace:
    if (folder / "corpus.json").is_file():
        papers = folder / "papers.parquet"
        if not papers.is_file():
            raise UserError(f"{folder}: is a corpus without papers; there is nothing to exclude.")
        read = partial(_of_corpus, papers)
        return ExclusionPlace(folder, False, read, partial(_checksums, [papers]))
    if (folder / TASKS).is_file():
        return _open_tasks(folder)
    readers: dict[Path, Callable[[], Iterator[Entry]]] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        stem = path.name.partition(".")[0]
        if stem == "papers" or stem.startswith(ABSTRACTS) or re.fullmatch(MDCR, stem):
            if reader_of(path, PAPER_READERS) is not None:
                readers[path] = partial(_papers, Table(path, "papers", readers=PAPER_READERS))
        elif stem == "queries" and reader_of(path) is not None:
            readers[path] = partial(_queries, Table(path, "queries"))
        elif stem.startswith("test-pid2anns-"):
            readers[path] = partial(_pools, path)
    if not readers:
        raise UserError(f"{folder}: holds no papers to exclude; expected {FOLDERS}.")
    return ExclusionPlace(
        folder,
        False,
        lambda: _distinct(entry for read in readers.values() for entry in read()),
        partial(_checksums, list(readers)),
    )


def _open_tasks(folder: Path) -> ExclusionPlace:
    tables = _task_tables(folder)
    return ExclusionPlace(
        folder,
        False,
        lambda: _distinct(entry for table in tables for entry in _task_texts(table)),
        lambda: [*_checksums([folder / TASKS]), *(f for t in tables for f in t.checksums())],
    )


def _checksums(files: list[Path]) -> list[dict[str, Any]]:
    return [
        {"name": file.name, "sha256": sha256(file), "bytes": file.stat().st_size} for file in files
    ]


def _distinct(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Each paper once, though several files of a folder name it."""
    seen: set[tuple[str, int]] = set()
    for entry in entries:
        keys = {(paper_id, title) for paper_id in entry.ids for title in {0, entry.title}}
        keys = keys or {("", entry.title)}
        if not keys <= seen:
            seen |= keys
            yield entry


def _lines(path: Path) -> Iterator[Entry]:
    for line, text in read_lines(path):
        if isinstance(text, BadRow):
            raise UserError(f"{path}:{line}: {text.message}")
        text = text.strip()
        yield Entry(text, (text,), text_number(text))


def _papers(table: Table) -> Iterator[Entry]:
    for place, paper in PaperRows(table):
        if not isinstance(paper, BadRow):
            ids = (paper.paper_id, *paper.other_ids)
            yield Entry(paper.paper_id, ids, text_number(paper.title))
        elif not paper.ordinary:
            raise UserError(f"{table.where(place)}: {paper.message} Correct the row.")


def _of_corpus(papers: Path) -> Iterator[Entry]:
    for row in read_papers(papers):
        yield Entry(row["paper_id"], (row["paper_id"],), text_number(row["title"]))


def _queries(table: Table) -> Iterator[Entry]:
    """The query papers; a search in words may be a title."""
    for place, row in table.rows():
        if isinstance(row, BadRow):
            raise UserError(f"{table.where(place)}: {row.message} Correct the row.")
        text, paper = row.get("text"), row.get("paper_id")
        words = text if isinstance(text, str) and text.strip() else ""
        if not words and isinstance(paper, str | int):
            yield Entry(str(paper), (str(paper),))
        elif words:
            yield Entry(words, (), text_number(words))


def _pools(path: Path) -> Iterator[Entry]:
    """The queries and the candidates of judged pools, by their ids alone."""
    for _, query, pool in iter_json(path):
        candidates = pool.get("cands") if isinstance(pool, Mapping) else None
        if query is None or not isinstance(candidates, list):
            raise UserError(f"{path}: expected {{query: {{'cands': [papers], ...}}}}.")
        for paper in (query, *map(str, candidates)):
            yield Entry(paper, (paper,))


def _task_tables(folder: Path) -> list[Table]:
    """The texts of SciRepEval's tasks: files or folders beside the list, or datasets."""
    tasks = Table(folder / TASKS, "tasks")
    sources: dict[str, None] = {}
    for place, row in tasks.rows():
        data = row.get("data") if isinstance(row, Mapping) else None
        meta = data.get("meta") if isinstance(data, Mapping) else None
        if isinstance(meta, str) and meta:
            sources[str(folder / meta)] = None
        elif isinstance(meta, Mapping) and isinstance(meta.get("name"), str):
            config = f":{meta['config']}" if meta.get("config") else ""
            sources[f"{meta['name']}{config}@evaluation"] = None
        else:
            raise UserError(f"{tasks.where(place)}: expected a task whose `data.meta` says texts.")
    return [Table(source, "texts") for source in sources]


def _task_texts(table: Table) -> Iterator[Entry]:
    """Records of texts, and those within searches ``{query, candidates}``."""
    for place, row in table.rows():
        if isinstance(row, BadRow):
            raise UserError(f"{table.where(place)}: {row.message} Correct the row.")
        texts: list[Any] = [row]
        if "query" in row and isinstance(row.get("candidates"), list | tuple):
            query = row["query"]
            texts = [query if isinstance(query, Mapping) else {"title": query}, *row["candidates"]]
        for text in texts:
            if not isinstance(text, Mapping):
                continue
            keys = ("doc_id", "paper_id", "corpus_id")
            ids = tuple(str(text[key]) for key in keys if text.get(key) not in (None, ""))
            title = text.get("title")
            number = text_number(title) if isinstance(title, str) else 0
            yield Entry(ids[0] if ids else str(title), ids, number)
