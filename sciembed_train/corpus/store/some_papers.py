"""Single papers of a ``papers.parquet``; only the row groups that hold them are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.store.checksums import check_file
from sciembed_train.text.cleaning import cleaned

COLUMNS = ("paper", "paper_id", "title", "abstract", "sentences", "year")
SHORT = 80  # letters of a title in a line


def some_papers(
    path: Path, papers: Iterable[int], columns: Iterable[str] = COLUMNS
) -> dict[int, dict[str, Any]]:
    """The rows of these papers by number; ``columns`` are those that are read."""
    import pyarrow.parquet as pq

    check_file(path)
    wanted = sorted(set(papers))
    row_of_paper: dict[int, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, wanted, side="right").tolist()
        for group in sorted(set(groups)):
            group_papers = [
                paper
                for paper, paper_group in zip(wanted, groups, strict=True)
                if paper_group == group
            ]
            first = int(ends[group]) - sizes[group]
            rows = file.read_row_group(group, columns=list(columns))
            picked = rows.take([paper - first for paper in group_papers]).to_pylist()
            row_of_paper.update(zip(group_papers, picked, strict=True))
    return row_of_paper


def in_quotes(paper: dict[str, Any]) -> str:
    """A paper in a line: its title, shortened, and its id."""
    title = " ".join(cleaned(paper["title"] or "").split())
    if not title:
        return f"{paper['paper_id']} (no title)"
    short = title if len(title) <= SHORT else title[: SHORT - 3] + "..."
    return f'"{short}" ({paper["paper_id"]})'


def titles_in_lines(path: Path, papers: Iterable[int]) -> list[str]:
    """These papers in their order, each as a line of `in_quotes`."""
    order = list(papers)
    row_of_paper = some_papers(path, order, ("paper_id", "title"))
    return [in_quotes(row_of_paper[paper]) for paper in order]
