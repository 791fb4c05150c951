"""Writes a synthetic collection in the formats that ``prepare`` and ``evaluate`` read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from sciembed_train.synthetic.citation_graph import generate_collection
from sciembed_train.synthetic.collection import SyntheticCollection, SyntheticSettings


def write_collection(
    folder: str | Path, settings: SyntheticSettings | None = None
) -> SyntheticCollection:
    """Generate a collection and write it in the formats that ``prepare`` and ``evaluate`` read.

    ``papers.jsonl``, ``citations.tsv``, ``contexts.jsonl``, ``fulltexts.jsonl``, ``labels.jsonl``
    (the field of a paper), ``citedness.jsonl`` (log of one plus its citations), ``queries.jsonl``
    and ``qrels.tsv``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    collection = generate_collection(settings)
    ids = collection.paper_ids
    _write_lines(folder / "papers.jsonl", sorted(map(_json, collection.papers())))
    write_citations(folder / "citations.tsv", collection)
    _write_lines(folder / "contexts.jsonl", map(_json, collection.contexts()))
    _write_lines(folder / "fulltexts.jsonl", map(_json, collection.fulltexts()))
    fields = [collection.field_name(int(f)) for f in collection.field[collection.topic]]
    _write_lines(
        folder / "labels.jsonl",
        (_json({"paper_id": p, "label": f}) for p, f in zip(ids, fields, strict=True)),
    )
    degree = np.log1p(collection.in_degree()).round(6).tolist()
    _write_lines(
        folder / "citedness.jsonl",
        (_json({"paper_id": p, "label": d}) for p, d in zip(ids, degree, strict=True)),
    )
    queries, qrels = collection.searches()
    _write_lines(folder / "queries.jsonl", map(_json, queries))
    _write_lines(folder / "qrels.tsv", (f"{q}\t0\t{p}\t{grade}" for q, p, grade in qrels))
    return collection


def write_citations(
    path: Path, collection: SyntheticCollection, citations: Int[np.ndarray, "E 2"] | None = None
) -> None:
    """Write citations (the collection's own by default) as ``citing``, ``cited`` with a header."""
    rows = (collection.citations if citations is None else citations).tolist()
    ids = collection.paper_ids
    _write_lines(path, ["citing\tcited", *(f"{ids[a]}\t{ids[b]}" for a, b in rows)])


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str] | Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)
