"""What citation marks give away: citing sentences that cite the same paper, found by keywords.

For each citing sentence all others are ranked by BM25; relevant are those that cite one of its
papers. The mean average precision is told for the sentences as given and with marks masked.

    python -m benchmarks.quality.citation_mentions CONTEXTS
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks import command_line
from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.citations.contexts import read_contexts
from sciembed_train.corpus.readers.tables import Table

K1, B = 1.5, 0.75
WORD = re.compile(r"[^\W_]+")
ROWS = 256  # queries scored at once


def bm25(texts: list[str]) -> tuple[Any, Any]:
    """Words of each text, ``[N, V]`` 0 or 1, and their weights in it, ``[N, V]``."""
    numbers: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        for word in WORD.findall(text.lower()):
            rows.append(row)
            columns.append(numbers.setdefault(word, len(numbers)))
    shape = len(texts), len(numbers)
    counts: Any = csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    lengths = np.asarray(counts.sum(1)).ravel()
    there = counts.sign()
    frequency = np.asarray(there.sum(0)).ravel()
    rarity = np.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
    weights = counts.tocoo()
    norm = K1 * (1 - B + B * lengths[weights.row] / lengths.mean())
    data = rarity[weights.col] * weights.data * (K1 + 1) / (weights.data + norm)
    return there.tocsr(), csr_matrix((data, (weights.row, weights.col)), shape)


def average_precisions(texts: list[str], cites: csr_matrix) -> Iterator[float]:
    """Of each sentence that another one cites alike; ties go to the earlier sentence."""
    words, weights = bm25(texts)
    for start in range(0, len(texts), ROWS):
        scores = (words[start : start + ROWS] @ weights.T).toarray()
        alike = (cites[start : start + ROWS] @ cites.T).toarray() > 0
        for i, (row, relevant) in enumerate(zip(scores, alike, strict=True)):
            row[start + i], relevant[start + i] = -np.inf, False
            if relevant.any():
                yield average_precision(np.argsort(-row, kind="stable"), relevant)


def average_precision(order: NDArray[np.int64], relevant: NDArray[np.bool_]) -> float:
    """Mean over the relevant of the precision at their ranks."""
    ranks = np.flatnonzero(relevant[order]) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def main() -> None:
    """Print both figures as JSON."""
    parser = command_line.parser(__doc__)
    parser.add_argument("contexts", type=Path)
    args = parser.parse_args()
    given = [context for _, context in read_contexts(Table(args.contexts, "contexts"))]
    contexts = [context for context in given if not isinstance(context, BadRow)]
    papers: dict[str, int] = {}
    pairs = [
        (row, papers.setdefault(paper, len(papers)))
        for row, context in enumerate(contexts)
        for paper in context.cited_ids
    ]
    rows, columns = np.array(pairs).T
    shape = len(contexts), len(papers)
    cites = csr_matrix((np.ones(len(pairs)), (rows, columns)), shape)
    found: dict[str, float] = {"sentences": len(contexts)}
    for name, texts in (
        ("given", [context.text for context in contexts]),
        ("masked", [mask_mentions_in(context.text, context.mentions) for context in contexts]),
    ):
        scores = list(average_precisions(texts, cites))
        found |= {"queries": len(scores), f"map_{name}": round(100 * float(np.mean(scores)), 2)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
