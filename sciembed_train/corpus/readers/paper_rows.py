"""The papers of a table, whatever record format its files have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS
from sciembed_train.corpus.readers.records.plain_papers import PlainPapers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import Paper, read_paper
from sciembed_train.errors import UserError


class PaperRows:
    """Reads each file of a table in the record format that its first row has.

    Args:
        table: the papers.
        columns: names of columns by field, for rows with a column for each field.
        needed: fields that rows with a column for each field must have.
        format: the name of a record format of `RECORD_FORMATS` that all files have, or ``plain``
            for rows with a column for each field; otherwise the format of each is recognised.
    """

    def __init__(
        self,
        table: Table,
        columns: Mapping[str, str] | None = None,
        format: str = "auto",
        needed: Sequence[str] = ("paper_id", "title"),
    ) -> None:
        self.table, self.columns, self.format = table, columns or {}, format
        self.needed = needed
        self.formats: dict[Path | None, RecordFormat] = {}  # of each file that was begun

    def read(self, place: int, row: Mapping[str, Any]) -> Paper:
        """The paper of a row.

        Raises:
            BadRow: the row describes no paper.
        """
        return read_paper(self.record(place, row))

    def record(self, place: int, row: Mapping[str, Any]) -> PaperRecord:
        """As `read`, unchecked."""
        return self.format_of(self.table.file(place), row).paper(row)

    def format_of(self, file: Path | None, row: Mapping[str, Any]) -> RecordFormat:
        """The format of a file, recognised at the first call by ``row``, its first row."""
        known = self.formats.get(file)
        if known is None:
            known = self.formats[file] = self._recognise(file, row)
        return known

    def rows(self, first_file: int = 0) -> Iterator[tuple[int, Mapping[str, Any], Paper | BadRow]]:
        """Every row with its place, as it stands, and as a paper or a `BadRow`.

        Those of files before the one with the number ``first_file`` are left out.
        """
        for place, row in self.table.rows(first_file):
            if isinstance(row, BadRow):
                yield place, {}, row
                continue
            try:
                yield place, row, self.read(place, row)
            except BadRow as bad:
                yield place, row, bad

    def __iter__(self) -> Iterator[tuple[int, Paper | BadRow]]:
        for place, _, paper in self.rows():
            yield place, paper

    def _recognise(self, file: Path | None, row: Mapping[str, Any]) -> RecordFormat:
        if self.columns or self.format == "plain":  # a user who names the columns has seen them
            return self._plain(file, row)
        if self.format in RECORD_FORMATS:
            return RECORD_FORMATS[self.format]
        known = (each for each in RECORD_FORMATS.values() if each.recognises(row))
        return next(known, None) or self._plain(file, row)

    def _plain(self, file: Path | None, row: Mapping[str, Any]) -> PlainPapers:
        """The format of rows with columns; an error for a table without an id or a title."""
        plain = PlainPapers(self.columns, self.needed)
        columns = plain.find(row)
        missing = [name for name in self.needed if getattr(columns, name) is None]
        if missing and self.table.has_columns(file):
            raise UserError(self._which_columns(file, missing, list(map(str, row))))
        return plain

    def _which_columns(self, file: Path | None, missing: list[str], columns: list[str]) -> str:
        named = [f"{name}={self.columns[name]}" for name in missing if name in self.columns]
        place = file or self.table.source
        listed = ", ".join(f"`{column}`" for column in columns)[:300]
        wanted = " or ".join(f"`{name}`" for name in missing)
        if named:
            return f"{place}: there is no column of --map {' '.join(named)}; it has {listed}."
        how = " ".join(f"--map {name}=COLUMN" for name in missing)
        return (
            f"{place}: no column has a name known for {wanted}; it has {listed}. "
            f"Say which one it is: {how}."
        )

    def said(self) -> list[str]:
        """How the files were recognised, a line a format."""
        by_name: dict[str, list[str]] = {}
        for file, known in self.formats.items():
            name = file.name if file is not None else self.table.source
            by_name.setdefault(known.name, []).append(name)
        return [
            f"{', '.join(files[:3])}{f' and {len(files) - 3:,} more' if len(files) > 3 else ''}: "
            f"{name}"
            for name, files in by_name.items()
        ]
