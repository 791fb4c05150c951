"""Hard negatives that an encoder has mined: papers near a query, not known to be related to it.
A folder ``negatives/NAME`` of a corpus: ``queries.npy`` (int32 ``[Q]``, papers, ascending),
``negatives.npy`` (int32 ``[Q, K]``, papers, the most similar first, -1 after the last),
``scores.npy`` (float16 ``[Q, K]``, their similarity to the query) and ``negatives.json`` (what
mined them, written last).

Shapes: ``Q`` queries, ``K`` negatives of a query, ``B`` papers asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.checksums import check_file
from sciembed_train.corpus.store.corpus_files import save_info, written_whole
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import check_numbers, load_array
from sciembed_train.errors import UserError

NEGATIVES = "negatives"  # a folder
NEGATIVES_VERSION = 1
MARKER = "negatives.json"


@dataclass(frozen=True)
class MinedNegatives:
    """Mined negatives, opened for reading.

    Args:
        name: of their folder.
        info: the contents of ``negatives.json``.
        queries: papers, ascending ``[Q]``.
        negatives: of each query ``[Q, K]``, the most similar first; -1 after the last.
        scores: similarity of each to its query ``[Q, K]``.
    """

    name: str
    info: Mapping[str, Any]
    queries: NDArray[np.int32]
    negatives: NDArray[np.int32]
    scores: NDArray[np.float16]

    def of(self, papers: NDArray[np.integer]) -> NDArray[np.int64]:
        """The negatives of papers, ``[B, K]``; -1 where there is none, as for papers not mined."""
        if not len(self.queries):
            return np.full((len(papers), self.negatives.shape[1]), -1, np.int64)
        place = np.minimum(np.searchsorted(self.queries, papers), len(self.queries) - 1)
        mined = np.asarray(self.queries[place]) == papers
        return np.where(mined[:, None], self.negatives[place], -1).astype(np.int64)

    def papers(self) -> NDArray[np.int64]:
        """The papers that are a negative of some query, ascending."""
        papers = np.unique(self.negatives).astype(np.int64)
        return papers[papers >= 0]


def write_negatives(
    corpus: Corpus,
    name: str,
    queries: NDArray[np.integer],
    negatives: NDArray[np.integer],
    scores: NDArray[np.floating],
    facts: Mapping[str, Any],
) -> None:
    """Write mined negatives into a corpus folder, whole or not at all.

    Args:
        corpus: that they are of.
        name: of the new folder.
        queries: papers, ascending ``[Q]``.
        negatives: ``[Q, K]``, the most similar first; -1 after the last.
        scores: similarity of each to its query ``[Q, K]``.
        facts: what mined them, such as the encoder.

    Raises:
        ValueError: the arrays do not fit together or name no paper of the corpus.
    """
    if negatives.shape != scores.shape or negatives.shape[:1] != queries.shape:
        shapes = [array.shape for array in (queries, negatives, scores)]
        raise ValueError(f"queries, negatives and scores do not fit together: {shapes}")
    if len(queries) and (np.diff(queries) <= 0).any():
        raise ValueError("queries must ascend")
    for papers in (queries, negatives):
        if papers.size and not -1 <= papers.min() <= papers.max() < corpus.n_papers:
            raise ValueError(f"papers must be in 0..{corpus.n_papers - 1}, negatives may be -1")
    with written_whole(corpus.folder / NEGATIVES / name, MARKER) as folder:
        np.save(folder / "queries.npy", queries.astype(np.int32))
        np.save(folder / "negatives.npy", negatives.astype(np.int32))
        np.save(folder / "scores.npy", scores.astype(np.float16))
        save_info(folder, {"version": NEGATIVES_VERSION, **facts}, MARKER)


def read_negatives(corpus: Corpus, name: str = "") -> MinedNegatives:
    """Open mined negatives of a corpus.

    Args:
        corpus: that they are of.
        name: of their folder; empty for the only one.

    Raises:
        UserError: there are none of this name, several and no name, or they are damaged.
    """
    known = sorted(path.parent.name for path in (corpus.folder / NEGATIVES).glob(f"*/{MARKER}"))
    if not known:
        raise UserError(
            f"{corpus.folder} holds no mined negatives. Mine them with `train mine "
            f"{corpus.folder} --model MODEL`, or set data.sampling.negatives_from otherwise."
        )
    if not name and len(known) > 1:
        raise UserError(
            f"{corpus.folder} holds several sets of mined negatives; name one of "
            f"{', '.join(known)} as data.sampling.mined_by."
        )
    name = name or known[0]
    if name not in known:
        raise UserError(
            f"{corpus.folder} holds no negatives mined by {name!r}; it has {', '.join(known)}."
        )
    folder = corpus.folder / NEGATIVES / name
    info = _read_info(folder / MARKER)
    arrays = [load_array(folder / f"{part}.npy") for part in ("queries", "negatives", "scores")]
    queries, negatives, scores = arrays
    if negatives.ndim != 2 or negatives.shape != scores.shape or len(queries) != len(negatives):
        raise UserError(f"{folder} is damaged: its arrays do not fit together. Mine them again.")
    check_numbers(queries, folder / "queries.npy", corpus.n_papers)
    check_numbers(negatives, folder / "negatives.npy", corpus.n_papers, lowest=-1)
    return MinedNegatives(name, info, queries, negatives, scores)


def _read_info(path: Path) -> dict[str, Any]:
    check_file(path)
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = info["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}). Mine the negatives again.") from error
    if version != NEGATIVES_VERSION:
        raise UserError(
            f"{path.parent} holds negatives of version {version}; this program reads version "
            f"{NEGATIVES_VERSION}. Mine them again."
        )
    return info
