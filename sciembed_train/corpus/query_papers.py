"""Which papers are queries of a corpus's triplets or in its co-cited pairs, and why others are not.

``corpus.json`` holds it, for only the build knows whether a paper has a text.

Shapes: ``P`` papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.some_papers import titles_in_lines
from sciembed_train.corpus.store.token_store import load_array

EXAMPLES = 5  # papers that are named by their titles, for each reason
CHUNK = 1 << 22  # rows of an array in memory at a time
NO_TEXT = "they have no title and no abstract"
CITES_NOTHING = "they cite no paper of this corpus"
CITES_NO_TEXT = "they cite only papers without a title and an abstract"
NOT_LISTED = "they are in no list of queries"
NO_NEGATIVE = (
    "they cite papers, but no triplet could be made: they have no hard negative (a paper that a "
    "cited training paper cites, and that they do not cite), or none was left for an easy one"
)
NOT_GIVEN = "no triplet that was given has them as its query"
NEVER_COCITED = "they are cited together with no other paper"
FILTERED = (
    "they are cited together with others, but filters and caps (such as min_count and max_pairs) "
    "leave no such pair"
)


def query_papers(folder: Path, papers: Papers, ready: bool) -> dict[str, Any]:
    """For triplets and for co-cited pairs: how many papers are queries, and why others are not.

    Args:
        folder: a corpus whose papers, citations, triplets and pairs are written.
        papers: its papers.
        ready: whether its triplets were given, not mined.
    """
    accounts: dict[str, Any] = {}
    if (folder / "triplets").is_dir():
        taken = _numbers(folder, "triplets", len(papers.ids), columns=1)
        accounts["triplets"] = _account(folder, taken, _no_query(folder, papers, ready))
    if (folder / "cocitations").is_dir():
        taken = _numbers(folder, "cocitations", len(papers.ids), columns=2)
        accounts["co-cited pairs"] = _account(folder, taken, _in_no_pair(folder, papers))
    return accounts


def _account(
    folder: Path, taken: NDArray[np.bool_], reasons: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    """Counts of papers: those that are taken, and all others by the first reason that holds."""
    left = ~taken
    others = {}
    for reason, holds in reasons.items():
        chosen = left & holds
        left &= ~holds
        if count := int(chosen.sum()):
            # Evenly spread: neighbours by id are often of one field or year.
            places = np.arange(min(count, EXAMPLES)) * count // EXAMPLES
            example_papers = np.flatnonzero(chosen)[places if count > EXAMPLES else slice(None)]
            examples = titles_in_lines(folder / "papers.parquet", example_papers.tolist())
            others[reason] = {"count": count, "examples": examples}
    return {"queries": int(taken.sum()), "others": others}


def _no_query(folder: Path, papers: Papers, ready: bool) -> dict[str, NDArray[np.bool_]]:
    """Why a paper is no query of a triplet: for each reason whether it holds, ``[P]``."""
    n = len(papers.ids)
    everyone = np.ones(n, np.bool_)
    reasons = {NO_TEXT: ~papers.usable}
    if (folder / "citations.npy").is_file():
        cites, cites_text = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        citations = load_array(folder / "citations.npy")
        for start in range(0, len(citations), CHUNK):
            citing, cited = np.asarray(citations[start : start + CHUNK]).T
            cites[citing] = True
            cites_text[citing[papers.usable[cited]]] = True
        reasons |= {CITES_NOTHING: ~cites, CITES_NO_TEXT: ~cites_text}
    if not ready:
        queries = np.zeros(n, np.bool_)
        for split in SPLITS:
            queries[load_array(folder / "queries" / f"{split}.npy")] = True
        reasons |= {NOT_LISTED: ~queries}
    return reasons | {NOT_GIVEN if ready else NO_NEGATIVE: everyone}


def _in_no_pair(folder: Path, papers: Papers) -> dict[str, NDArray[np.bool_]]:
    """Why a paper is in no co-cited pair: for each reason whether it holds, ``[P]``."""
    n = len(papers.ids)
    cocited = np.zeros(n, np.bool_)
    known = load_array(folder / "cocitations" / "known.npy")
    for start in range(0, len(known), CHUNK):
        for side in np.divmod(np.asarray(known[start : start + CHUNK]), n):
            cocited[side] = True
    return {NO_TEXT: ~papers.usable, NEVER_COCITED: ~cocited, FILTERED: np.ones(n, np.bool_)}


def _numbers(folder: Path, kind: str, n: int, columns: int) -> NDArray[np.bool_]:
    """Whether each paper is in one of the first columns of an example of any split, ``[P]``."""
    in_example = np.zeros(n, np.bool_)
    for split in SPLITS:
        rows = load_array(folder / kind / f"{split}.npy")
        for start in range(0, len(rows), CHUNK):
            in_example[np.asarray(rows[start : start + CHUNK, :columns]).ravel()] = True
    return in_example
