"""Vectors computed before in place of a model: `VectorsById` as a system and an embedder.

Shapes: ``P`` records, ``Q`` queries, ``N`` candidates, ``K`` papers of one query's pool, ``D``
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import QUERY_FORMAT, Record
from sciembed_train.evaluation.distances import distance_rows
from sciembed_train.evaluation.scoring import Scoring
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.options import Similarity, similarity_of
from sciembed_train.inference.vectors_by_id import VectorRows, VectorsById
from sciembed_train.losses.similarity import pairwise_euclidean

REMEDY = "Embed these texts too, or give the vectors of this collection."


class MissingVectorsError(UserError):
    """A file lacks vectors that a benchmark asks for."""


class Precomputed:
    """Papers ranked by the distances of vectors of a file: a `System`, and an `Embedder` too.

    Args:
        path: the vectors, by the ids of papers, and of queries in words by theirs.
        similarity: what they are compared by; None for what a folder of shards records, or else
            Euclidean distance.
        query_path: the vectors of all queries, by the ids of queries or, of papers, by theirs;
            None where they are in ``path``.

    Raises:
        UserError: as `VectorsById`, or the two files have vectors of unlike widths.
    """

    by_sentence: ClassVar[bool] = False

    def __init__(
        self,
        path: str | Path,
        similarity: Similarity | None = None,
        query_path: str | Path | None = None,
    ) -> None:
        self.name = str(path)
        self.notes: list[str] = []
        self.file = VectorsById(path)
        self.similarity: Similarity = similarity_of(similarity, self.file.similarity, path)
        self.queries = None
        if query_path is not None:
            self.queries = VectorsById(query_path, "--query_embeddings")
            if self.queries.dim != self.file.dim:
                raise UserError(
                    f"{query_path}: holds vectors of width {self.queries.dim}, and {path} of width "
                    f"{self.file.dim}. Give those of one encoder."
                )

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        files = {"embeddings": str(self.file.path)}
        if self.queries is not None:
            files["query_embeddings"] = str(self.queries.path)
        return {**Scoring("document", self.similarity).describe(), **files, "dim": self.file.dim}

    def embed(self, records: Mapping[str, Record], format: str) -> Float32[np.ndarray, "P D"]:
        """See `Embedder`.

        Raises:
            MissingVectorsError: the file lacks one.
        """
        file = self.file if format != QUERY_FORMAT else self.queries or self.file
        return file.rows(_found(file, list(records), "texts"))

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`.

        Raises:
            MissingVectorsError: a file lacks a query or a candidate, or has one vector for a query
                and another text.
        """
        _, paper_ids = search.ids()
        papers = VectorRows(self.file, _found(self.file, paper_ids, "papers"), self._unit)
        asking = self._asking(search)
        if search.pools is None:
            yield from distance_rows(asking[:], papers, judged=search.judged_papers)
            return
        for at, pool in enumerate(search.pools):
            query, candidates = (
                torch.from_numpy(rows) for rows in (asking[at : at + 1], papers[pool])
            )
            yield pairwise_euclidean(query, candidates)[0].numpy()

    @property
    def _unit(self) -> bool:
        return self.similarity == "cosine"

    def _asking(self, search: Search) -> VectorRows:
        """The vectors of the queries."""
        query_ids, paper_ids = search.ids()
        papers = search.query_papers or [None] * len(query_ids)
        if search.query_papers is None:  # those that are candidates
            id_of = dict(zip(search.papers.tolist(), paper_ids, strict=True))
            papers = [id_of.get(row) for row in search.queries.tolist()]
        if self.queries is not None:
            names = [
                query if query in self.queries or paper is None else paper
                for query, paper in zip(query_ids, papers, strict=True)
            ]
            return VectorRows(self.queries, _found(self.queries, names, "queries"), self._unit)
        _refuse_shared_ids(self.file.path, query_ids, papers, paper_ids)
        names = [p or q for q, p in zip(query_ids, papers, strict=True)]
        return VectorRows(self.file, _found(self.file, names, "queries"), self._unit)


def _refuse_shared_ids(
    path: Path,
    query_ids: Sequence[str],
    papers: Sequence[str | None],
    paper_ids: Sequence[str],
) -> None:
    """Refuse queries that are no papers and have the ids of papers: a title, words that ask."""
    candidates = set(paper_ids)
    shared = [q for q, p in zip(query_ids, papers, strict=True) if p is None and q in candidates]
    if shared:
        raise MissingVectorsError(
            f"{path}: has one vector for {shared[0]}, and the benchmark has two texts of this id, "
            f"a query and a paper ({len(shared):,} of {len(query_ids):,} queries are so). Give the "
            "vectors of the queries in a file of their own with --query_embeddings."
        )


def _found(file: VectorsById, ids: Sequence[str], what: str) -> Int64[np.ndarray, " _"]:
    """The rows of ids.

    Raises:
        MissingVectorsError: there are not all of them.
    """
    positions = file.positions(ids)
    lacking = np.flatnonzero(positions < 0)
    if len(lacking):
        raise MissingVectorsError(
            f"{file.path}: lacks {len(lacking):,} of {len(ids):,} {what}, such as "
            f"{ids[int(lacking[0])]}; it has {len(file):,} vectors, such as that of "
            f"{file.first_id}. {REMEDY}"
        )
    return positions
