"""The interface of readers, one a file format: rows of fields, each with its number in the file.

A reader is a class in a file of this package and a line in `registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.validation import missing_field

Row = tuple[int, Mapping[str, Any] | BadRow]  # its number, and its fields
Cells = tuple[int, Sequence[Any] | BadRow]


@dataclass(frozen=True)
class ReadOptions:
    """What a reader needs to know of the rows that are expected.

    A file with a header must have one of ``columns``, if there are any; a JSON object with one of
    ``record_keys`` is one record and not a record for each key.
    """

    columns: Collection[str] = ()
    record_keys: Collection[str] = ()


BY_RECORD = 1 << 39  # added to a record's number where its line does not tell it from others


def numbered(number: int, by: str = "line") -> str:
    """A row's number as it follows a file's name in a message: ``:3``, ``, row 3``."""
    if number > BY_RECORD:
        return f", record {number - BY_RECORD}"
    return f", row {number}" if by == "row" else f":{number}"


class FileReader(ABC):
    """Reads the files of one format, row by row.

    Attributes:
        numbered_by: what the number of a row counts; messages say ``file:3`` or ``file, row 3``.
            A number above `BY_RECORD` counts records, as where several stand on one line.
        has_columns: whether all rows of a file have the same fields.
        may_be_compressed: whether files may also end in ``.gz`` or ``.zst``.
    """

    numbered_by: ClassVar[Literal["line", "row"]] = "line"
    has_columns: ClassVar[bool] = False
    may_be_compressed: ClassVar[bool] = True

    @abstractmethod
    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every row as fields by name, or as a `BadRow`, with its number from 1.

        Only a bounded part of the file may be held in memory.

        Raises:
            UserError: the file cannot be read, is damaged, or has no header of column names.
        """

    def cells(self, path: Path, names: Sequence[str], aliases: Sequence[str]) -> Iterator[Cells]:
        """The named columns of every row; formats with an optional header override this.

        ``aliases`` are other names for the same columns in order, or empty. Errors as `rows`.
        """
        return named_columns(self.rows(path, ReadOptions()), names, aliases)


def named_columns(
    rows: Iterable[Row], names: Sequence[str], aliases: Sequence[str]
) -> Iterator[Cells]:
    """The named columns of rows; a row without one of them is a `BadRow`."""
    for number, row in rows:
        if isinstance(row, BadRow):
            yield number, row
            continue
        columns = names if names[0] in row or not aliases else aliases
        missing = next((name for name in columns if name not in row), None)
        if missing is None:
            yield number, [row[name] for name in columns]
        else:
            yield number, missing_field(missing, row)
