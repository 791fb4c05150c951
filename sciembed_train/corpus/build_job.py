"""What the steps of building a corpus folder share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import Inputs, PrepareSettings
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.progress import Progress


@dataclass(kw_only=True)
class BuildJob:
    """A corpus folder that is being built.

    Args:
        folder: the corpus.
        settings: what to read and how.
        inputs: the opened inputs.
        lists: ids of queries or documents of a split.
        progress: reports the stages.
        report: filled by the steps; becomes ``report.json``.
    """

    folder: Path
    settings: PrepareSettings
    inputs: Inputs
    lists: Mapping[Split, set[str]]
    progress: Progress
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """A folder for intermediate files; it is removed when the corpus is complete."""
        return self.folder / "work"

    def audit(self, name: str) -> Audit:
        """An account of the rows of an input."""
        return Audit(name, self.settings.max_bad_rows)


@dataclass(kw_only=True)
class PaperJob(BuildJob):
    """A corpus folder whose papers have been read.

    Args:
        engine: runs the SQL.
        papers: the papers.
        split: ``[P]``: the split of each paper as a query.
    """

    engine: Engine
    papers: Papers
    split: NDArray[np.int8]
