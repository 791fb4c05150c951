"""An index of vectors by FAISS: flat, inverted lists (IVF) or a graph (HNSW).

Vectors are compared by the product of unit vectors (cosine) or by Euclidean distance. A *score* is
larger where papers are nearer: the cosine, or minus the distance.

Shapes: ``R`` vectors, ``Q`` queries, ``K`` nearest of each, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from sciembed_train.inference.options import Similarity
    from sciembed_train.search.index_settings import Kind

NEAREST, ENOUGH = 10, 0.95  # neighbours of which recall is measured; the recall that is looked for
LINKS, BREADTH = 32, 100  # of a graph: links of each vector; candidates while it is built
SLACK = 1e-5  # of scores, for the rounding of float32
WIDEST = 1024  # candidates of a query in a graph, at most
# Vectors that a cluster is trained on: FAISS advises 39 to 256.
LEAST_OF_CLUSTER, OF_CLUSTER, TRAINED_ON = 39, 64, 1_000_000


def load_faiss() -> Any:
    """The library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "An index of vectors needs the package faiss-cpu, which is not installed: "
            "pip install 'sciembed_train[search]'."
        ) from error
    return faiss


class FaissIndex:
    """An index that finds the nearest of its vectors.

    Args:
        index: of the library.
        kind: of index.
        similarity: what vectors are compared by.
    """

    def __init__(self, index: Any, kind: Kind, similarity: Similarity) -> None:
        self.index, self.kind, self.similarity = index, kind, similarity

    @classmethod
    def new(cls, kind: Kind, similarity: Similarity, dim: int, count: int) -> FaissIndex:
        """An empty index for ``count`` vectors; an IVF index has to be trained."""
        faiss = load_faiss()
        metric = faiss.METRIC_INNER_PRODUCT if similarity == "cosine" else faiss.METRIC_L2
        flat = faiss.IndexFlat(dim, metric)
        if kind == "flat":
            return cls(flat, kind, similarity)
        if kind == "hnsw":
            graph = faiss.IndexHNSWFlat(dim, LINKS, metric)
            graph.hnsw.efConstruction = BREADTH
            return cls(graph, kind, similarity)
        most = min(count, TRAINED_ON) // LEAST_OF_CLUSTER
        clusters = max(1, min(round(4 * count**0.5), most))
        lists = faiss.IndexIVFFlat(flat, dim, clusters, metric)
        flat.this.disown()  # the lists own it now
        lists.own_fields = True
        return cls(lists, kind, similarity)

    @property
    def training_size(self) -> int:
        """How many vectors it wants to be trained on; 0 where it is not trained."""
        return min(TRAINED_ON, OF_CLUSTER * self.index.nlist) if self.kind == "ivf" else 0

    def train(self, vectors: Float32[np.ndarray, "R D"]) -> None:
        """Train the clusters on a sample."""
        self.index.train(self.prepared(vectors))

    def add(self, vectors: Float32[np.ndarray, "R D"]) -> None:
        """Add the next rows."""
        self.index.add(self.prepared(vectors))

    def prepared(self, vectors: Float32[np.ndarray, "R D"]) -> Float32[np.ndarray, "R D"]:
        """Vectors as they are compared: unit vectors for the cosine, zeros as they are."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.similarity != "cosine":
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def nearest(
        self, queries: Float32[np.ndarray, "Q D"], count: int
    ) -> tuple[Float32[np.ndarray, "Q K"], Int64[np.ndarray, "Q K"]]:
        """Scores and rows of the nearest vectors, nearest first; a row of -1 is none."""
        scores, rows = self.index.search(self.prepared(queries), count)
        if self.similarity != "cosine":
            scores = -np.sqrt(np.maximum(scores, 0))
        return scores, rows

    def vector(self, row: int) -> Float32[np.ndarray, " D"]:
        """A stored vector, as it is compared."""
        if self.kind == "ivf":
            self.index.make_direct_map()  # does nothing the second time
        return self.index.reconstruct(row)

    @property
    def effort(self) -> int:
        """Clusters that a query searches, or candidates in a graph; 0 for an exact search."""
        if self.kind == "ivf":
            return self.index.nprobe
        return self.index.hnsw.efSearch if self.kind == "hnsw" else 0

    @effort.setter
    def effort(self, value: int) -> None:
        if self.kind == "ivf":
            self.index.nprobe = value
        elif self.kind == "hnsw":
            self.index.hnsw.efSearch = value

    def facts(self) -> dict[str, int]:
        """The parameters, in words."""
        if self.kind == "ivf":
            return {"clusters": self.index.nlist, "clusters_of_a_query": self.effort}
        return {"links": LINKS, "candidates_of_a_query": self.effort} if self.kind == "hnsw" else {}

    def save(self, path: Path) -> None:
        """Write it to a file."""
        load_faiss().write_index(self.index, str(path))

    @classmethod
    def load(cls, path: Path, kind: Kind, similarity: Similarity, effort: int) -> FaissIndex:
        """Read what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        faiss = load_faiss()
        try:
            loaded = cls(faiss.read_index(str(path)), kind, similarity)
        except RuntimeError as error:
            raise UserError(f"{path} is damaged or missing. Make the index again.") from error
        loaded.effort = effort
        return loaded


def tune(
    index: FaissIndex,
    rows: Int64[np.ndarray, " Q"],
    queries: Float32[np.ndarray, "Q D"],
    blocks: Iterable[Float32[np.ndarray, "_ D"]],
) -> float | None:
    """Recall of the nearest 10 against an exact search, at the least effort that gives 0.95.

    Any neighbour as near as the tenth nearest counts, within the rounding of float32: of equal
    vectors any is right. A vector is no neighbour of itself.

    Args:
        index: is left with this effort, or with the largest where none gives so much.
        rows: of the queries, which are vectors of the index.
        queries: the vectors.
        blocks: all vectors in their order.

    Returns:
        The recall; None where there is one vector alone.
    """
    count = min(NEAREST, index.index.ntotal - 1)
    if count < 1:
        return None
    tenth = _exact(index, rows, queries, blocks, count)
    limit = tenth - SLACK
    if index.similarity != "cosine":  # the rounding is that of squares
        length = (queries.astype(np.float64) ** 2).sum(1)
        limit = -np.sqrt(tenth**2 + SLACK * (2 * length + tenth**2))
    most = {"flat": 0, "hnsw": WIDEST}.get(index.kind, 0)
    most = index.index.nlist if index.kind == "ivf" else most
    effort = {"flat": 0, "ivf": 1, "hnsw": 2 * NEAREST}[index.kind]
    while True:
        index.effort = effort
        scores, nearest_rows = index.nearest(queries, count + 1)
        near = (nearest_rows >= 0) & (nearest_rows != rows[:, None]) & (scores >= limit[:, None])
        recall = float(np.minimum(near.sum(1), count).mean()) / count
        if recall >= ENOUGH or effort >= most:
            return recall
        effort = min(2 * effort, most)


def _exact(
    index: FaissIndex,
    rows: Int64[np.ndarray, " Q"],
    queries: Float32[np.ndarray, "Q D"],
    blocks: Iterable[Float32[np.ndarray, "_ D"]],
    count: int,
) -> Float64[np.ndarray, " Q"]:
    """The score of each query's ``count``-th nearest neighbour, by an exact search."""
    left = index.prepared(queries).astype(np.float64)
    best = np.full((len(rows), count), -np.inf)
    first = 0
    for block in blocks:
        right = index.prepared(block).astype(np.float64)
        scores = left @ right.T
        if index.similarity != "cosine":
            squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * scores
            scores = -np.sqrt(np.maximum(squares, 0))
        in_block = np.flatnonzero((rows >= first) & (rows < first + len(block)))
        scores[in_block, rows[in_block] - first] = -np.inf
        merged = np.concatenate([best, scores], axis=1)
        best = np.partition(merged, merged.shape[1] - count, axis=1)[:, -count:]
        first += len(block)
    return best.min(1)
