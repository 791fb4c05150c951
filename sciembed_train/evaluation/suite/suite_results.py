"""The results of a suite as a table for people and notebooks, and as the files of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sciembed_train.evaluation.suite import suite_table
from sciembed_train.evaluation.suite.run_suite import SuiteScores
from sciembed_train.evaluation.suite.suite_page import suite_page
from sciembed_train.evaluation.suite.suite_table import Row, suite_rows
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.output_file import whole_file, write_json


@dataclass(frozen=True, repr=False)
class SuiteResults:
    """The scores of models on benchmarks; in a notebook they show as a table.

    Args:
        found: the scores.
        rows: of the table.
        folder: where the files are.
    """

    found: SuiteScores
    rows: Sequence[Row]
    folder: Path

    @classmethod
    def write(cls, found: SuiteScores, folder: Path) -> SuiteResults:
        """Compare the models and write every file.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        self = cls(found, suite_rows(found), folder)
        texts: Mapping[str, str] = {
            "table.csv": suite_table.as_csv(found, self.rows),
            "table.md": suite_table.as_markdown(found, self.rows),
            "report.html": suite_page(found, self.rows),
        }
        safe = "The scores are kept in its `scores`. Make room and run the same command again."
        with told_full_disk(folder, safe):
            folder.mkdir(parents=True, exist_ok=True)  # where nothing could be scored
            write_json(folder / "results.json", self.as_dict())
            for name, text in texts.items():
                with whole_file(folder / name) as file:
                    file.write(text)
        return self

    def text(self, bold: bool = False) -> str:
        """The table for a terminal; ``bold`` marks the best of each row."""
        return suite_table.as_text(self.found, self.rows, bold)

    def as_dict(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return suite_table.as_dict(self.found, self.rows)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text())}</pre>"
