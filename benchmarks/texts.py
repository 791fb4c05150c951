"""Real titles and abstracts for benchmarks, read from a data folder beside the project.

Nothing of that data is part of the project; ``--data`` names the folder.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np


def lines(path: Path) -> list[dict]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def real_papers(data: Path) -> list[dict]:
    """Distinct papers with title and abstract, of five collections, in a fixed order."""
    found = lines(data / "csfcube" / "abstracts-csfcube-preds.jsonl.gz")
    found += lines(data / "scisumm" / "papers.jsonl")
    for triplet in json.loads((data / "scirepeval" / "specter_small.json").read_text()):
        found += [triplet["query"], triplet["pos"], triplet["neg"]]
    found += json.loads((data / "scirepeval" / "mesh_small.json").read_text())
    papers = {}
    for paper in found:
        abstract = paper.get("abstract") or ""
        if isinstance(abstract, list):
            abstract = " ".join(abstract)
        if paper.get("title") and abstract:
            papers.setdefault((paper["title"], abstract), None)
    return [
        {"paper_id": str(i), "title": title, "abstract": abstract}
        for i, (title, abstract) in enumerate(papers)
    ]


def distinct_triplets(papers: int, count: int, seed: int) -> np.ndarray:
    """``count`` triplets in which no paper appears twice, [count, 3].

    Without a shared paper the project gains nothing from encoding each paper once, so a
    comparison on these triplets is about the encoder's path alone.
    """
    if 3 * count > papers:
        raise ValueError(f"{count} triplets without a shared paper need {3 * count} papers")
    return np.random.default_rng(seed).permutation(papers)[: 3 * count].reshape(count, 3)
