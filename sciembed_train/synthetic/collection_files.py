"""Writes a synthetic collection in the formats that ``prepare`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from sciembed_train.synthetic.citation_graph import generate_collection
from sciembed_train.synthetic.collection import SyntheticCollection, SyntheticSettings


def write_collection(
    folder: str | Path, settings: SyntheticSettings | None = None
) -> SyntheticCollection:
    """Generate a collection and write its ``papers.jsonl`` and ``citations.tsv``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    collection = generate_collection(settings)
    rows = (json.dumps(paper, ensure_ascii=False) for paper in collection.papers())
    _write_lines(folder / "papers.jsonl", sorted(rows))
    write_citations(folder / "citations.tsv", collection)
    return collection


def write_citations(
    path: Path, collection: SyntheticCollection, citations: Int[np.ndarray, "E 2"] | None = None
) -> None:
    """Write citations (the collection's own by default) as ``citing``, ``cited`` with a header."""
    rows = (collection.citations if citations is None else citations).tolist()
    ids = collection.paper_ids
    _write_lines(path, ["citing\tcited", *(f"{ids[a]}\t{ids[b]}" for a, b in rows)])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)
