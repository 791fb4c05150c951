"""The citations of a table as blocks of ids, from files of pairs and from rows with references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.citations.citation_columns import (
    FIELDS,
    CitationColumns,
    columns_of,
    find_columns,
    unclear,
)
from sciembed_train.corpus.paper_ids import UNKNOWN, PaperIds
from sciembed_train.corpus.papers import References
from sciembed_train.corpus.readers.column_blocks import column_blocks
from sciembed_train.corpus.readers.delimited import Delimited
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.records.plain_papers import PlainPapers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import (
    MAX_ID,
    missing_field,
    read_id,
    read_ids,
    too_long_id,
)
from sciembed_train.errors import UserError

ROWS = 1 << 16  # of a block that is read row by row
HEAD = 4  # rows that are looked at to find the columns


@dataclass(frozen=True)
class CitationBlock:
    """Citations as they were read.

    Args:
        places: of the rows ``[N]``.
        citing, cited: ids, as an Arrow array or a list of texts ``[N]``, or numbers of papers
            ``[N]`` int32.
    """

    places: NDArray[np.int64]
    citing: Any
    cited: Any


Blocks = Iterator[CitationBlock | tuple[int, BadRow]]


class CitationFiles:
    """Reads the citations of a table.

    Args:
        table: files of pairs, or of rows that name the papers that they cite.
        ids: finds papers.
        columns: names or numbers of columns by field, where the user gives them; ``citing`` and
            ``cited`` count.
    """

    def __init__(self, table: Table, ids: PaperIds, columns: Mapping[str, str]) -> None:
        self.table, self.ids = table, ids
        self.given = {field: columns[field] for field in FIELDS if field in columns}
        self.names: dict[str, tuple[str, str]] = {}  # of each file, the columns or what they are
        self._papers = PaperRows(table, needed=())

    def blocks(self) -> Blocks:
        """All citations and malformed rows.

        Raises:
            UserError: it is not clear which column cites.
        """
        for number, file in self.table.numbered_files():
            reader = None if file is None else self.table.reader(file)
            if not isinstance(reader, Delimited) or file is None:
                yield from self._rows(number, file)
                continue
            head = reader.head(file, HEAD)
            if head and not self.given and columns_of(head[0]) is None and _lists(head[0]):
                yield from self._rows(number, file)
                continue
            columns = find_columns(str(file), head, self.given, self._is_known)
            if columns is None:  # it is empty, or not one of its rows can be read
                yield from self._rows(number, file)
                continue
            self.names[file.name] = columns.names
            yield from self._cells(number, file, reader, columns)

    def _is_known(self, paper_id: str) -> bool:
        return self.ids.find(paper_id) != UNKNOWN

    def _cells(
        self, number: int, file: Path, reader: Delimited, columns: CitationColumns
    ) -> Blocks:
        any_row = False
        for block in column_blocks(reader, file, columns.numbers, FIELDS, columns.header):
            any_row = True
            if isinstance(block, tuple):
                yield self.table.place(number, block[0]), block[1]
                continue
            places = self.table.place(number, block.lines)
            yield from _without_long_ids(CitationBlock(places, *block.columns))
        if not any_row:
            self.table.has_no_row(file)

    def _rows(self, number: int, file: Path | None) -> Blocks:
        """Citations of rows with names: pairs, or a paper and those that it cites."""
        places: list[int] = []
        pairs: list[tuple[str, str]] = []
        pair: tuple[str, str] | None = None
        first = True
        for place, row in self.table.rows_of(number):
            if isinstance(row, BadRow):
                yield place, row
                continue
            if first:
                first, pair = False, self._pair(file, row)
            try:
                row_pairs = _pair_of(row, pair) if pair else self._references(place, row)
            except BadRow as bad:
                yield place, bad
                continue
            places += [place] * len(row_pairs)
            pairs += row_pairs
            if len(places) >= ROWS:
                yield _block(places, pairs)
                places, pairs = [], []
        if places:
            yield _block(places, pairs)

    def _pair(self, file: Path | None, row: Mapping[str, Any]) -> tuple[str, str] | None:
        """The fields of a row that cite and are cited; None where a row has references."""
        place = str(file or self.table.source)
        names = list(map(str, row))
        if self.given:
            columns = find_columns(place, [names], self.given, lambda _: False)
            assert columns is not None
            citing, cited = columns.numbers
            pair = names[citing], names[cited]
        else:
            pair = columns_of(names)
        if pair is None and not self._names_references(file, row):
            raise UserError(unclear(place, names))
        self.names[Path(place).name] = pair or ("a paper", "each of its references")
        return pair

    def _names_references(self, file: Path | None, row: Mapping[str, Any]) -> bool:
        """Whether rows like this one name the papers that they cite."""
        known = self._papers.format_of(file, row)
        if not isinstance(known, PlainPapers):
            return True
        return _lists(list(row))

    def _references(self, place: int, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        record = self._papers.record(place, row)
        paper_id = read_id(record.paper_id, "paper_id")
        pairs = [(paper_id, other_id) for other_id in read_ids(record.references)]
        return pairs + [(other_id, paper_id) for other_id in read_ids(record.cited_by)]


def _lists(names: Sequence[str]) -> bool:
    """Whether columns hold the id of a paper, and lists of those that it cites or is cited by."""
    columns = PlainPapers().find(dict.fromkeys(names))
    return columns.paper_id is not None and bool(columns.references or columns.cited_by)


def reference_blocks(references: References) -> Blocks:
    """The citations that stand in the rows of papers."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(references.file) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            papers = references.number[batch.column("row").to_numpy()]
            cites = batch.column("cites").to_numpy(zero_copy_only=False)
            places, other_ids = batch.column("place").to_numpy(), batch.column("other")
            if cites.any():
                yield CitationBlock(
                    places[cites], papers[cites], other_ids.filter(batch.column("cites"))
                )
            if not cites.all():
                cited_by = other_ids.filter(_not(batch.column("cites")))
                yield CitationBlock(places[~cites], cited_by, papers[~cites])


def _not(column: Any) -> Any:
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are made when it is imported
    return compute.invert(column)


def _pair_of(row: Mapping[str, Any], names: tuple[str, str]) -> list[tuple[str, str]]:
    for name in names:
        if name not in row:
            raise missing_field(name, row)
    citing, cited = (read_id(row[name], name) for name in names)
    return [(citing, cited)]


def _without_long_ids(block: CitationBlock) -> Blocks:
    """A block of texts without the rows with an id above `MAX_ID`, which are malformed."""
    lengths = np.stack([_lengths(block.citing), _lengths(block.cited)], axis=1)
    if lengths.max(initial=0) <= MAX_ID:
        yield block
        return
    long = lengths > MAX_ID
    keep: NDArray[np.bool_] = ~np.any(long, axis=1)
    for row in np.flatnonzero(~keep).tolist():
        column = int(np.argmax(long[row]))
        yield int(block.places[row]), too_long_id(FIELDS[column], int(lengths[row, column]))
    yield CitationBlock(block.places[keep], _where(block.citing, keep), _where(block.cited, keep))


def _lengths(column: Any) -> NDArray[np.int64]:
    """The characters of each id of an Arrow array or a list."""
    if isinstance(column, list):
        return np.fromiter(map(len, column), np.int64, len(column))
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are made when it is imported
    return compute.utf8_length(column).to_numpy().astype(np.int64)


def _where(column: Any, keep: NDArray[np.bool_]) -> Any:
    if isinstance(column, list):
        return [text for text, kept in zip(column, keep.tolist(), strict=True) if kept]
    return column.filter(keep)


def _block(places: Sequence[int], pairs: Sequence[tuple[str, str]]) -> CitationBlock:
    citing, cited = zip(*pairs, strict=True)
    return CitationBlock(np.array(places, np.int64), list(citing), list(cited))
