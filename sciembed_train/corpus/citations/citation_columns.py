"""Which column of a file cites, and which is cited.

The names of the columns say it, or the user (``--map citing=COLUMN``). A file of cells may also
have no header: its first line is a row where a cell of it is the id of a known paper or looks like
an id, and then the first two columns are citing and cited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sciembed_train.corpus.paper_ids import plain_forms
from sciembed_train.corpus.readers.records.plain_papers import folded
from sciembed_train.errors import UserError

FIELDS = ("citing", "cited")
# Known pairs of names, in lower case without punctuation.
PAIRS = (
    ("citing", "cited"),
    ("source", "target"),
    ("src", "dst"),
    ("from", "to"),
    ("referencing", "referenced"),
    ("paper", "reference"),
    ("work", "referencedwork"),
)
# What may follow such a name: citing_id, citingPaperId, citingcorpusid, source_doi.
_ENDINGS = ("", "id", "paper", "paperid", "corpusid", "doi", "pmid", "openalexid", "node", "nodeid")
_ENDINGS += ("work", "workid", "article", "articleid", "document", "documentid")
NUMBERED_ROWS = 3  # rows that it takes to recognise a column of row numbers


@dataclass(frozen=True)
class CitationColumns:
    """The columns of a file's citations.

    Args:
        citing: the number of the column from 0, and its name (empty without a header).
        cited: likewise.
        header: whether the first line names the columns.
    """

    citing: tuple[int, str]
    cited: tuple[int, str]
    header: bool

    @property
    def numbers(self) -> tuple[int, int]:
        """Both columns, from 0."""
        return self.citing[0], self.cited[0]

    @property
    def names(self) -> tuple[str, str]:
        """Both columns as messages call them."""
        if self.header:
            return self.citing[1], self.cited[1]
        return f"column {self.citing[0] + 1}", f"column {self.cited[0] + 1}"


def find_columns(
    place: str,
    head: Sequence[Sequence[str]],
    given: Mapping[str, str],
    known: Callable[[str], bool],
) -> CitationColumns | None:
    """The columns of a file of cells; None for one without a row.

    Args:
        place: the file, for messages.
        head: its first rows.
        given: names or numbers (from 1) of columns that the user names, by field.
        known: whether an id is that of a paper.

    Raises:
        UserError: the file does not tell which column cites.
    """
    if not head:
        return None
    first = [cell.strip() for cell in head[0]]
    if given:
        return _given(place, head, given, known)
    pair = columns_of(first)
    if pair is not None:
        return CitationColumns(*((first.index(name), name) for name in pair), header=True)
    if len(first) < 2:
        raise UserError(
            f"{place}: its first line is {first[0][:80]!r}, one column; a citation has two, "
            "`citing` and `cited`, with commas (.csv) or tabs (.tsv) between them."
        )
    if not (_is_row(first, known) or _is_like_next(head)):
        raise UserError(unclear(place, first))
    if _numbers_rows(head):
        raise UserError(
            f"{place}: it has no header, and its first column counts the rows "
            f"({', '.join(first)}). Say which columns are the ids: --map citing=2 --map cited=3."
        )
    return CitationColumns((0, ""), (1, ""), header=False)


def columns_of(names: Sequence[str]) -> tuple[str, str] | None:
    """The citing and the cited column, by their names; None where no names tell."""
    by_name = {folded(name): name for name in reversed(names)}
    for citing, cited in PAIRS:
        for ending in _ENDINGS:
            if citing + ending in by_name and cited + ending in by_name:
                return by_name[citing + ending], by_name[cited + ending]
    return None


def unclear(place: str, columns: Sequence[str]) -> str:
    """The message where no names say which column cites."""
    listed = ", ".join(f"`{column}`" for column in columns)[:300]
    return (
        f"{place}: no columns are called `citing` and `cited` or by another pair of known names "
        f"(source and target, from and to, citing_id and cited_id, ...); it has {listed}. Say "
        "which paper cites: --map citing=COLUMN --map cited=COLUMN. If the first line is a "
        "citation already, its ids are not the papers': give the file a header, citing and cited."
    )


def _given(
    place: str,
    head: Sequence[Sequence[str]],
    given: Mapping[str, str],
    known: Callable[[str], bool],
) -> CitationColumns:
    """The columns that the user gives by name or number."""
    first = [cell.strip() for cell in head[0]]
    numbers: list[tuple[int, str]] = []
    for name in FIELDS:
        column = given.get(name)
        if column is None:
            raise UserError(f"{place}: --map names `{', '.join(given)}`, and not `{name}` too.")
        # In a file of ids the first row may hold this very number, as the id of a paper.
        if column in first and not (column.isdecimal() and known(column)):
            numbers.append((first.index(column), column))
        elif column.isdecimal() and 1 <= int(column) <= len(first):
            numbers.append((int(column) - 1, ""))
        else:
            listed = ", ".join(f"`{heading}`" for heading in first)[:300]
            raise UserError(
                f"{place}: there is no column of --map {name}={column}; it has {listed}."
            )
    columns = [number for number, _ in numbers]
    if not any(name for _, name in numbers) and _is_citation(head, columns, known):
        return CitationColumns(numbers[0], numbers[1], header=False)
    citing, cited = ((number, first[number]) for number in columns)
    return CitationColumns(citing, cited, header=True)


def _is_citation(
    head: Sequence[Sequence[str]], columns: Sequence[int], known: Callable[[str], bool]
) -> bool:
    """Whether the first line holds ids in these columns, and not their names."""
    rows = [[row[column].strip() for column in columns] for row in head if len(row) > max(columns)]
    if any(cell.isdecimal() for cell in rows[0]):
        return True
    return columns_of(rows[0]) is None and (_is_row(rows[0], known) or _is_like_next(rows))


def _is_row(first: Sequence[str], known: Callable[[str], bool]) -> bool:
    return any(known(cell) or plain_forms(cell) or _has_digits(cell) for cell in first if cell)


def _is_like_next(head: Sequence[Sequence[str]]) -> bool:
    """Whether a cell of the first line differs from the one below in digits only, as p1 and p3."""
    if len(head) < 2:
        return False
    pairs = zip(head[0], head[1], strict=False)
    return any(
        re.search(r"\d", cell) is not None
        and re.sub(r"\d+", "0", cell) == re.sub(r"\d+", "0", below)
        for cell, below in pairs
    )


def _has_digits(cell: str) -> bool:
    """Whether a cell has three digits in a row, as ids do and names of columns do not."""
    return re.search(r"\d{3}", cell) is not None


def _numbers_rows(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first of three or more columns counts the rows, from 0 or 1."""
    if len(head) < NUMBERED_ROWS or any(len(row) < 3 for row in head):
        return False
    column = [row[0].strip() for row in head]
    return any(column == [str(i + start) for i in range(len(head))] for start in (0, 1))
