"""Triplets from the neighbours of a paper in an embedding of the citation graph.

After SciNCL, Ostendorff et al. (2022). For a query paper, one that cites another:

- **positives** are neighbours in one band of ranks, near but not the very nearest;
- **hard negatives** are neighbours in a far band;
- **easy negatives** are random papers outside the neighbourhood, the nearest up to the far band.

The graph is of all papers, with a text or not; only papers with a text are queries, positives or
negatives. A paper without an edge has no vector, so it is neither query nor in a band. No negative
cites its query or is cited by it, and a positive is connected to its query by citations: in a small
connected component the band takes the farthest papers.

Held-out papers give away nothing: what a paper of dev or test cites is no edge of the graph from
which training triplets are taken. Those of dev are taken from a graph with the citations of dev,
those of test from the whole one.

Every choice is a hash of paper numbers and the seed. Shapes: ``P`` papers, ``E`` citations, ``M``
papers of the index, ``B`` queries of a block, ``N`` triplets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.graph_embedding import adjacency, components, write_embedding
from sciembed_train.corpus.mining.nearest_neighbours import nearest_neighbours
from sciembed_train.corpus.mining.neighbour_settings import Bands, NeighbourMining
from sciembed_train.corpus.mining.triplet_mining import Triplets
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.progress import Progress

POSITIVE, HARD, EASY, LAST = range(4)  # streams of draws
TRIES = 8  # easy negatives that are drawn for each one wanted, before all papers are looked at


@dataclass
class _Counts:
    """Counts of what was made and left out on the way to triplets."""

    without_vector: int = 0
    without_positive: int = 0
    linked_hard: int = 0
    few_positives: int = 0
    unfilled: int = 0
    graphs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "graphs": self.graphs,
            "queries left out: no citation of theirs is in the graph": self.without_vector,
            "queries left out: no other paper with a text is connected to them": (
                self.without_positive
            ),
            "triplets not made: fewer papers with a text are connected to the query": (
                self.few_positives
            ),
            "hard negatives left out: they cite the query or are cited by it": self.linked_hard,
        }


@dataclass(frozen=True)
class _Graph:
    """The graph of a split.

    Args:
        matrix: adjacency of the papers with an edge.
        papers: the number of each of these, ascending.
        index: which of them have a text, ascending.
        part: the connected component of each paper of the index.
    """

    matrix: Any
    papers: NDArray[np.int32]
    index: NDArray[np.int64]
    part: NDArray[np.int32]

    def linked(self, paper: int) -> NDArray[np.int32]:
        """The papers that a paper of the index cites or is cited by."""
        start, end = self.matrix.indptr[paper : paper + 2]
        return self.papers[self.matrix.indices[start:end]]


def mine_neighbours(
    citations: NDArray[np.int32],
    usable: NDArray[np.bool_],
    split: NDArray[np.int8],
    settings: NeighbourMining,
    seed: int,
    memory: int,
    work: Path,
    progress: Progress,
) -> tuple[Triplets, dict[str, Any]]:
    """The triplets of every query paper, and counts for ``report.json``.

    Args:
        citations: ``[E, 2]``, citing and cited; distinct, ascending, none to itself.
        usable: whether each paper has a text ``[P]``.
        split: of each paper as a query ``[P]``: 0 for train, 1 for dev, 2 for test.
        settings: bands and numbers.
        seed: of every choice.
        memory: bytes that the embedding's matrices may take.
        work: a folder for the vectors, removed after each graph.
        progress: of the stages.

    Raises:
        UserError: ``settings.reproduce`` and the graph is too small for the bands.
    """
    readable = citations[usable[citations[:, 0]] & usable[citations[:, 1]]]
    queries = np.unique(readable[:, 0]).astype(np.int32)
    counts = _Counts()
    parts: list[tuple[NDArray[np.int32], NDArray[np.bool_]]] = []
    for number, name in enumerate(SPLITS):
        of_split = queries[split[queries] == number]
        if not len(of_split):
            continue
        graph = _graph(citations[split[citations[:, 0]] <= number], usable)
        bands = settings.bands(len(graph.index))
        counts.graphs[name] = {
            "papers": len(graph.papers),
            "papers with a text": len(graph.index),
            "citations": graph.matrix.nnz // 2,
            "ranks of positives": list(bands.positives),
            "ranks of hard negatives": list(bands.hard),
        }
        miner = _Miner(graph, settings, bands, np.flatnonzero(usable), len(usable), seed, counts)
        file = work / f"{name}_vectors.npy"
        with progress.stage(f"citation graph ({name})", unit="columns") as stage:
            vectors, known = write_embedding(
                file, graph.matrix, settings.dimension, seed, memory, stage.reach
            )
        with progress.stage(f"triplets ({name})", unit="queries") as stage:
            parts += miner.mine(vectors, known, of_split, stage.reach)
        del vectors
        file.unlink()
    rows = np.concatenate([np.empty((0, 3), np.int32), *(rows for rows, _ in parts)])
    hard = np.concatenate([np.empty(0, np.bool_), *(hard for _, hard in parts)])
    order = np.argsort(rows[:, 0], kind="stable")
    triplets = Triplets(
        rows=rows[order],
        hard=hard[order],
        queries=queries,
        without_hops=np.empty(0, np.int32),
        unfilled=counts.unfilled,
    )
    return triplets, counts.as_dict()


def _graph(edges: NDArray[np.int32], usable: NDArray[np.bool_]) -> _Graph:
    papers = np.unique(edges).astype(np.int32)
    matrix = adjacency(np.searchsorted(papers, edges), len(papers))
    index = np.flatnonzero(usable[papers])
    return _Graph(matrix, papers, index, components(matrix)[index])


@dataclass(frozen=True)
class _Miner:
    """Takes triplets from a graph.

    Args:
        graph: of the split.
        settings: numbers of triplets.
        bands: the ranks that are taken.
        texts: papers with a text, ascending: easy negatives.
        n_papers: ``P``.
        seed: of the draws.
        counts: updated while mining.
    """

    graph: _Graph
    settings: NeighbourMining
    bands: Bands
    texts: NDArray[np.int64]
    n_papers: int
    seed: int
    counts: _Counts

    def mine(
        self,
        vectors: NDArray[np.float32],
        known: NDArray[np.bool_],
        queries: NDArray[np.int32],
        on_queries: Callable[[int, int], None],
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Triplets ``[N, 3]`` of some queries, and whether the negative of each is a hard one."""
        graph = self.graph
        alive = known[graph.index]
        index, part = graph.index[alive], graph.part[alive]
        in_index = np.isin(queries, graph.papers[index])
        self.counts.without_vector += int((~in_index).sum())
        queries = queries[in_index]
        node = np.searchsorted(graph.papers, queries)
        kept = min(self.bands.kept, len(index) - 1)
        if kept < 1:
            self.counts.without_positive += len(queries)
            return
        taken = np.zeros(self.n_papers, np.bool_)
        for rows, places in nearest_neighbours(vectors, index, node, kept):
            block = queries[rows]
            papers = graph.papers[index[places]]
            query_part = part[np.searchsorted(index, node[rows])]
            connected = part[places] == query_part[:, None]
            for i, query in enumerate(block.tolist()):
                linked = graph.linked(node[rows][i])
                triplets = self._of_query(query, papers[i], connected[i], linked, taken)
                if triplets is not None:
                    yield triplets
            on_queries(rows.stop, len(queries))

    def _of_query(
        self,
        query: int,
        neighbours: NDArray[np.int32],
        connected: NDArray[np.bool_],
        linked: NDArray[np.int32],
        taken: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]] | None:
        """The triplets of a query; None without a positive.

        Args:
            query: the paper.
            neighbours: the nearest first.
            connected: which of them citations lead to.
            linked: the papers that it cites or is cited by.
            taken: a mask of every paper, all False; reset before returning.
        """
        settings = self.settings
        positives = self._ordered(query, POSITIVE, self._positives(neighbours, connected))
        positives = positives[: settings.per_query]
        if not len(positives):
            self.counts.without_positive += 1
            return None
        taken[linked] = True
        band = neighbours[slice(*self.bands.hard)]
        band = self._ordered(query, HARD, band[~np.isin(band, positives)])
        free = ~taken[band]
        self.counts.linked_hard += int((~free).sum())
        hard = band[free][: min(settings.hard, len(positives))]
        taken[neighbours] = True
        taken[query] = True
        easy = self._easy(query, len(positives) - len(hard), taken)
        for papers in (linked, neighbours, query):
            taken[papers] = False
        negatives = np.concatenate([hard, easy]).astype(np.int32)
        self.counts.few_positives += settings.per_query - len(positives)
        self.counts.unfilled += len(positives) - len(negatives)
        positives = positives[: len(negatives)]
        rows = np.stack([np.full_like(positives, query), positives, negatives], axis=1)
        is_hard = np.arange(len(rows)) < len(hard)
        order = np.lexsort(rows.T[::-1])
        return rows[order], is_hard[order]

    def _positives(
        self, neighbours: NDArray[np.int32], connected: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """The papers of the band, nearest first."""
        first, end = self.bands.positives
        if self.settings.reproduce:
            return neighbours[first:end]
        near = neighbours[connected]
        first = max(0, min(first, len(near) - (end - first)))
        return near[first : first + end - self.bands.positives[0]]

    def _easy(self, query: int, count: int, taken: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Distinct random papers with a text that are not taken."""
        if not count:
            return np.empty(0, np.int32)
        draws = hashes(self.seed, query, EASY, np.arange(TRIES * count))
        drawn = self.texts[(draws % np.uint64(len(self.texts))).astype(np.int64)]
        drawn = drawn[~taken[drawn]]
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        if len(drawn) < count:  # nearly all papers are near: look at every one
            left = self.texts[~taken[self.texts]]
            left = left[~np.isin(left, drawn)]
            drawn = np.concatenate([drawn, self._ordered(query, LAST, left)])
        return drawn[:count].astype(np.int32)

    def _ordered(self, query: int, stream: int, papers: NDArray[Any]) -> NDArray[Any]:
        """The papers in a random order."""
        return papers[np.lexsort((papers, hashes(self.seed, query, stream, papers)))]


def hashes(seed: int, query: int, stream: int, numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """A random 64-bit number for each of ``numbers``, by seed, query and stream (splitmix64)."""
    state = np.zeros(numbers.shape, np.uint64)
    for value in (seed, query, stream, numbers):
        state = state ^ np.asarray(value).astype(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
