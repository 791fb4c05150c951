"""What a user's files hold: papers, citations, or nothing that is known; for ``train init``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.citations.citation_columns import columns_of, find_columns
from sciembed_train.corpus.readers.delimited import Delimited
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.records.plain_papers import FIELDS, PlainPapers
from sciembed_train.corpus.readers.registry import PAPER_READERS
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError

ROWS = 200  # that are looked at
HEAD = 4
SHOWN = 3  # papers of a file that are kept


@dataclass(frozen=True)
class FoundFile:
    """What a file holds.

    Args:
        path: the file.
        kind: what it can be given as; ``other`` where it is not known.
        what: the record format and its columns, or why it is not known.
        papers: the first ones of a file of papers.
        references: whether their rows can name papers that they cite.
    """

    path: Path
    kind: Literal["papers", "citations", "other"]
    what: str
    papers: list[Paper] = field(default_factory=list)
    references: bool = False


def look_at(source: Path, columns: Mapping[str, str] | None = None) -> list[FoundFile]:
    """What each file holds: the file itself, or those of a folder, in the order of their names.

    Args:
        source: a file or a folder.
        columns: names of columns by field, as ``--map`` gives them.

    Raises:
        UserError: there is no such file or folder, or the folder is empty.
    """
    if source.is_file():
        return [_look_at_file(source, columns or {})]
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder.")
    files = sorted(path for path in source.iterdir() if path.is_file() and path.name[0] != ".")
    if not files:
        raise UserError(f"{source}: there is no file in this folder.")
    return [_look_at_file(file, columns or {}) for file in files]


def may_cite(source: str | Path, columns: Mapping[str, str], format: str = "auto") -> bool:
    """Whether rows of these papers can name the papers that they cite, by format and columns.

    False also where the papers cannot be read: reading them raises the error.
    """
    paper_columns = {name: column for name, column in columns.items() if name in FIELDS}
    try:
        table = Table(source, "papers", readers=PAPER_READERS)
        rows = PaperRows(table, paper_columns, format)
        for place, row in islice(table.rows(), ROWS):
            if not isinstance(row, BadRow):
                return rows.format_of(table.file(place), row).names_references(row)
    except UserError:
        return False
    return False


def _look_at_file(file: Path, columns: Mapping[str, str]) -> FoundFile:
    try:
        table = Table(file, "papers", readers=PAPER_READERS)
    except UserError:
        return FoundFile(file, "other", "the ending says no format that is read")
    try:
        pair = _citations(table, file, columns)
        return FoundFile(file, "citations", pair) if pair else _papers(table, file, columns)
    except UserError as error:
        return FoundFile(file, "other", str(error).removeprefix(f"{file}: "))


def _citations(table: Table, file: Path, columns: Mapping[str, str]) -> str | None:
    """How the columns of a file of citations are read; None if it holds no citations."""
    citation_columns = {
        name: column for name, column in columns.items() if name in ("citing", "cited")
    }
    reader = table.reader(file)
    if isinstance(reader, Delimited):
        head = reader.head(file, HEAD)
        if not head:
            raise UserError(f"{file}: it is empty.")
        names = [cell.strip() for cell in head[0]]
        pair = columns_of(names)
        if pair is None and (
            citation_columns or (len(names) == 2 and not _is_paper(names, columns))
        ):
            pair_columns = find_columns(str(file), head, citation_columns, lambda _: False)
            pair = pair_columns.names if pair_columns else None
        return f"{pair[0]} cites {pair[1]}" if pair else None
    row = next((row for _, row in table.rows() if not isinstance(row, BadRow)), {})
    pair = columns_of(list(map(str, row)))
    return f"{pair[0]} cites {pair[1]}" if pair else None


def _is_paper(names: list[str], columns: Mapping[str, str]) -> bool:
    paper_columns = PlainPapers(columns).find(dict.fromkeys(names))
    return paper_columns.paper_id is not None and paper_columns.title is not None


def _papers(table: Table, file: Path, columns: Mapping[str, str]) -> FoundFile:
    paper_columns = {name: column for name, column in columns.items() if name in FIELDS}
    rows = PaperRows(table, paper_columns)
    first: Mapping[str, Any] | None = None
    papers: list[Paper] = []
    faults: list[str] = []
    for place, row, paper in islice(rows.rows(), ROWS):
        if isinstance(paper, BadRow):
            faults.append(f"{table.where(place)}: {paper.message}")
            continue
        first = row if first is None else first
        papers.append(paper)
    if first is None:
        raise UserError(faults[0] if faults else f"{file}: it is empty.")
    known = rows.format_of(file, first)
    what = known.name
    if isinstance(known, PlainPapers):
        column_names = known.find(first)
        named = ((name, getattr(column_names, name)) for name in FIELDS)
        what = ", ".join(f"{name} is `{column}`" for name, column in named if column is not None)
    if faults:
        what += f"; {len(faults)} of the first {len(faults) + len(papers)} rows are malformed"
    return FoundFile(file, "papers", what, papers[:SHOWN], known.names_references(first))
