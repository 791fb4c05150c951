"""Triplets in files: ready-made ones, in place of mined ones, and a corpus's own as CSV.

Shapes: ``N`` triplets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, checked_rows, read_each
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.unmatched_ids import UnmatchedIds
from sciembed_train.corpus.validation import read_id
from sciembed_train.errors import UserError
from sciembed_train.progress import Stage

NAMES = ("query", "positive", "negative")
ALIASES = ("query_paper_id", "positive_id", "negative_id")


def read_triplets(table: Table, papers: Papers, audit: Audit, stage: Stage) -> NDArray[np.int32]:
    """Distinct triplets, ``[N, 3]``: query, positive, negative; ascending.

    Those that name an unknown paper, one without a text, or a paper twice, are counted and left
    out.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    triplets: list[list[int]] = []
    unmatched = UnmatchedIds()
    rows = read_each(table.cells(NAMES, ALIASES), _read_ids)
    for place, ids in checked_rows(rows, table.where, audit, stage):
        keys = [papers.key.get(paper_id) for paper_id in papers.as_spelled(ids)]
        reason = _why_unusable(keys, papers)
        if None in keys:
            unmatched.add(*(i for i, key in zip(ids, keys, strict=True) if key is None))
        if reason is not None:
            audit.drop(reason, table.where(place))
        else:
            triplets.append(keys)  # pyright: ignore[reportArgumentType]
    if note := unmatched.note(table.source, audit.rows, "triplets", papers.ids):
        audit.notes.append(note)
    distinct = np.unique(np.array(triplets, np.int32).reshape(-1, 3), axis=0)
    if len(distinct) < len(triplets):
        audit.drop("given before", table.source, len(triplets) - len(distinct))
    audit.kept = len(distinct)
    return distinct


def _read_ids(cells: Sequence[Any]) -> list[str]:
    return [read_id(cell, name) for cell, name in zip(cells, NAMES, strict=True)]


def _why_unusable(keys: list[int | None], papers: Papers) -> str | None:
    for name, key in zip(NAMES, keys, strict=True):
        if key is None:
            return f"unknown {name}"
        if papers.excluded[key]:
            return f"excluded {name}"
        if not papers.usable[key]:
            return f"{name} without a text"
    return "a paper twice in one triplet" if len(set(keys)) < 3 else None


def export_csv(corpus: Corpus, folder: str | Path) -> None:
    """Write the triplets of each split as ``query_paper_id,positive_id,negative_id``."""
    folder = Path(folder)
    ids = corpus.paper_ids()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            with (folder / f"{split}_triples.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(ALIASES)
                for row in corpus.triplets(split):
                    writer.writerow([ids[paper] for paper in row])
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
