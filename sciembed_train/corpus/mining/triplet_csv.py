"""The triplets of a corpus as CSV files with paper ids."""

from __future__ import annotations

import csv
from pathlib import Path

from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError


def export_csv(corpus: Corpus, folder: str | Path) -> None:
    """Write the triplets of each split as ``query_paper_id,positive_id,negative_id``."""
    folder = Path(folder)
    ids = corpus.paper_ids()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            with (folder / f"{split}_triples.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("query_paper_id", "positive_id", "negative_id"))
                for row in corpus.triplets(split):
                    writer.writerow([ids[paper] for paper in row])
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
