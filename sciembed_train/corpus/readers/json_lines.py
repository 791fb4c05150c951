"""JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import BY_RECORD, FileReader, ReadOptions, Row
from sciembed_train.corpus.readers.envelopes import record, records_of
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.line_faults import CR_ALONE, json_problem


class JsonLines(FileReader):
    """Reads ``.jsonl`` files; empty lines are ignored."""

    def rows(self, path: Path, options: ReadOptions) -> Iterator[Row]:
        """Every line's object; for a line with an API's answer, its records."""
        count = 0
        for number, line in read_lines(path):
            value = line if isinstance(line, BadRow) else _parse(line)
            records = records_of(value)
            if records is None:
                count += 1
                yield number, value
                continue
            for each in records:
                count += 1
                yield BY_RECORD + count, record(each)


def _parse(line: str) -> Mapping[str, Any] | BadRow:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"{json_problem(error)} at column {error.colno}."
        if "\r" in line and error.msg == "Extra data":
            problem = CR_ALONE
        return BadRow("not JSON", f"this is not JSON: {problem}")
    except (ValueError, RecursionError) as error:
        return BadRow("not JSON", f"this is not JSON that can be read: {json_problem(error)}.")
    if not isinstance(value, dict):
        return BadRow("not an object", "this is not an object with fields, {...}.")
    return value
