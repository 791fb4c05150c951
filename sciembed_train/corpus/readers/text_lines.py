"""Plain text: one document a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.files import read_lines, refuse_binary


class TextLines(FileReader):
    """Reads ``.txt`` files as rows with the field ``text``; empty lines are rows too."""

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every line as ``{"text": line}``."""
        refuse_binary(path)
        for number, line in read_lines(path, empty=True):
            yield number, line if isinstance(line, BadRow) else {"text": line}
