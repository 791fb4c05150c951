"""Embeddings of citation graphs compared: are papers near that held-out papers cite together?

Of each graph a tenth of the papers is held out: what they cite is left out, as `prepare` leaves out
the citations of dev and test. Then all papers are ranked by the inner product of unit vectors
around (1) a paper that a held-out one cites, where another paper that it cites should be near, and
(2) the held-out paper itself, where others cite it, and a paper that it cites should be near.

    python -m benchmarks.quality.graph_embedding --data ../shared/data [--graphs arxiv-hep ...]
        [--ranks] [--faiss]

Embeddings, all 768 wide:

``factorised``  eigenvectors of ``D^-1/2 (A + I) D^-1/2`` times their eigenvalues
``walks-log``   the logarithm of ``vol A / (d d')`` factorised, then three steps of a walk, after
                ProNE (Zhang et al. 2019)
``projected``   `corpus.mining.graph_embedding`, that of ``triplets_from: neighbours``
``plain``       the same projection of ``S^3 + S^4 + S^5``: every edge counts the same

``--ranks`` prints for arxiv-hep what stands at which rank: the cosine of the texts' words (TF-IDF)
and the share that is within two citations of the query. ``--faiss`` times the search of neighbours
beside FAISS's flat index, where the package faiss-cpu is installed, each on one thread.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from benchmarks import command_line
from sciembed_train.corpus.mining.graph_embedding import (
    SCALE,
    adjacency,
    components,
    write_embedding,
)
from sciembed_train.corpus.mining.nearest_neighbours import nearest_neighbours

GRAPHS = {
    "arxiv-hep": "arxiv-hep/citations.tsv.gz",
    "arxiv-hep-titles": "arxiv-hep/citations-all.tsv.gz",
    "cit-hepph-part": "graphs/cit-hepph-part/citations.tsv.gz",
    "lak": "graphs/lak/citations.tsv",
    "citeulike-a": "graphs/citeulike-a/links.tsv",
}
NEAREST = (10, 25, 100, 1000)
PAIRS = 3000
DIMENSION = 768
RANKS = ((0, 1), (1, 5), (5, 10), (10, 20), (20, 25), (40, 60), (90, 110), (190, 210), (380, 420),
         (780, 820), (1500, 1600), (3998, 4000))  # fmt: skip


def citations(path: Path) -> tuple[np.ndarray, list[str]]:
    """Citations by number ``[E, 2]``, and the ids."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [line.split("\t")[:2] for line in text.decode().splitlines()[1:]]
    ids, numbers = np.unique(np.array(rows), return_inverse=True)
    return numbers.reshape(-1, 2), ids.tolist()


def walk(matrix: Any) -> Any:
    root = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)))
    return (root @ matrix @ root).tocsr()


def factors(matrix: Any) -> np.ndarray:
    """Eigenvectors and the roots of their eigenvalues' sizes, multiplied."""
    u, size, _ = randomized_svd(
        matrix, DIMENSION, n_iter=cast(Any, 7), n_oversamples=20, random_state=0, flip_sign=False
    )
    return u * np.sqrt(size)


def factorised(matrix: Any) -> np.ndarray:
    s = walk(matrix + sparse.identity(matrix.shape[0], format="csr"))
    return s @ factors(s)


def walks_log(matrix: Any) -> np.ndarray:
    degree = np.asarray(matrix.sum(1)).ravel()
    logs = matrix.tocoo()
    logs.data = np.log(np.maximum(matrix.sum() / (degree[logs.row] * degree[logs.col]), 1.0000001))
    x, s = factors(logs.tocsr()), walk(matrix)
    for _ in range(3):
        x = s @ x
    return x


def projected(matrix: Any) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        vectors, _ = write_embedding(Path(folder) / "v.npy", matrix, DIMENSION, 0, 10**9)
        return np.array(vectors)


def plain(matrix: Any) -> np.ndarray:
    s = walk(matrix)
    total = np.zeros((matrix.shape[0], DIMENSION))
    x = np.random.default_rng(0).integers(0, 2, (matrix.shape[0], DIMENSION)) * 2.0 - 1
    for step in range(1, 6):
        x = s @ x
        total = total + x * (step >= 3)
    return total


EMBEDDINGS = {
    "factorised": factorised,
    "walks-log": walks_log,
    "plain": plain,
    "projected": projected,
}


def held_out_pairs(edges: np.ndarray, papers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Citations that are left, and pairs that held-out papers cite together, or cite."""
    rng = np.random.default_rng(0)
    held = (rng.random(papers) < 0.1)[edges[:, 0]]
    kept = edges[~held]
    known = np.zeros(papers, bool)
    known[kept] = True
    away = edges[held]
    away = away[known[away[:, 1]]]
    away = away[np.argsort(away[:, 0], kind="stable")]
    together = []
    for cited in np.split(away[:, 1], np.flatnonzero(np.diff(away[:, 0])) + 1):
        if len(cited) > 1:
            cited = rng.permutation(cited)
            together.append(np.stack([cited, np.roll(cited, 1)], axis=1))
    cocited, citing = np.concatenate(together), away[known[away[:, 0]]]
    some = [pairs[rng.permutation(len(pairs))[:PAIRS]] for pairs in (cocited, citing)]
    return kept, some[0], some[1]


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 1e-9, lengths, 1)).astype(np.float32)


def found(vectors: np.ndarray, pairs: np.ndarray) -> str:
    """The share of pairs whose second paper is among the k nearest of the first, for each k."""
    vectors, ranks = unit(vectors), []
    for low in range(0, len(pairs), 500):
        query, other = pairs[low : low + 500].T
        rows = np.arange(len(query))
        scores = vectors[query] @ vectors.T
        scores[rows, query] = -np.inf
        own = scores[rows, other][:, None]
        # A paper of equal score stands before half of the others.
        ranks.append((scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2)
    ranks = np.concatenate(ranks)
    return " | ".join(f"{(ranks < k).mean():.3f}" for k in NEAREST)


def compare(name: str, data: Path) -> None:
    edges, ids = citations(data / GRAPHS[name])
    kept, together, cited = held_out_pairs(edges, len(ids))
    papers = np.unique(kept)
    place = np.full(len(ids), -1)
    place[papers] = np.arange(len(papers))
    matrix = adjacency(place[kept], len(papers))
    print(
        f"\n{name}: {len(papers):,} papers, {matrix.nnz // 2:,} edges, "
        f"{components(matrix).max() + 1:,} parts; {len(together):,} pairs cited together, "
        f"{len(cited):,} cited\n"
    )
    heads = [f"{kind} {k}" for kind in ("together", "cited") for k in NEAREST]
    print(f"| embedding | {' | '.join(heads)} | seconds |\n|---|{'--:|' * (len(heads) + 1)}")
    for label, embed in EMBEDDINGS.items():
        begun = time.perf_counter()
        vectors = embed(matrix)
        took = time.perf_counter() - begun
        shares = [found(vectors, place[pairs]) for pairs in (together, cited)]
        print(f"| {label} | {' | '.join(shares)} | {took:.0f} |", flush=True)


def ranks(data: Path) -> None:
    """What stands at which rank around 1,000 papers of the largest part of arxiv-hep."""
    edges, ids = citations(data / GRAPHS["arxiv-hep"])
    matrix = adjacency(edges, len(ids))
    part = components(matrix)
    largest = np.flatnonzero(part == np.bincount(part).argmax())
    texts = {}
    with gzip.open(data / "arxiv-hep" / "papers.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            paper = json.loads(line)
            texts[paper["paper_id"]] = f"{paper['title']} {paper['abstract']}"
    words = TfidfVectorizer(min_df=3, sublinear_tf=True, stop_words="english").fit_transform(
        texts[i] for i in ids
    )
    queries = np.random.default_rng(0).permutation(largest)[:1000]
    vectors = unit(projected(matrix))
    scores = vectors[queries] @ vectors.T
    scores[np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    alike = (words[queries] @ words.T).toarray()
    near = ((matrix @ matrix + matrix) > 0)[queries].toarray()
    print("| ranks | inner product | cosine of words | within two citations |\n|---|--:|--:|--:|")
    for first, end in RANKS:
        at = order[:, first:end]
        means = [np.take_along_axis(of, at, 1).mean() for of in (scores, alike, near)]
        print(f"| {first} to {end - 1} | {means[0]:.3f} | {means[1]:.4f} | {means[2]:.3f} |")
    print(f"| any | | {alike.mean():.4f} | {near.mean():.3f} |")


def beside_faiss(papers: int = 100_000, queries: int = 512, rounds: int = 3) -> None:
    """Milliseconds a query of both, alternating, and how many sets of neighbours are the same."""
    import faiss

    faiss.omp_set_num_threads(1)
    drawn = np.random.default_rng(0).standard_normal((papers, DIMENSION))
    vectors = np.rint(SCALE * unit(drawn)).astype(np.float32)
    index, rows = faiss.IndexFlatIP(DIMENSION), np.arange(queries)
    index.add(vectors)
    print(
        "| neighbours | ours, ms | FAISS, ms | ours / FAISS | the same sets |\n"
        "|--:|--:|--:|---|--:|"
    )
    for kept in (120, 2000, 4000):
        times, ours, theirs = np.zeros((rounds, 2)), [], np.empty((0, 0))
        for number in range(rounds):
            begun = time.perf_counter()
            ours = [p for _, p in nearest_neighbours(vectors, np.arange(papers), rows, kept)]
            middle = time.perf_counter()
            theirs = index.search(vectors[rows], kept + 1)[1]
            times[number] = middle - begun, time.perf_counter() - middle
        pairs = zip(np.concatenate(ours), theirs, rows, strict=True)
        same = sum(set(a) == set(b) - {query} for a, b, query in pairs)
        ratio = times[:, 0] / times[:, 1]
        own, other = np.median(times, axis=0) / queries * 1000
        print(
            f"| {kept:,} | {own:.1f} | {other:.1f} | {np.median(ratio):.2f} "
            f"({ratio.min():.2f} to {ratio.max():.2f}) | {same} of {queries} |"
        )


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--graphs", nargs="*", choices=list(GRAPHS), default=list(GRAPHS))
    parser.add_argument("--ranks", action="store_true")
    parser.add_argument("--faiss", action="store_true")
    args = parser.parse_args()
    if args.faiss:
        beside_faiss()
        return
    if args.ranks:
        ranks(args.data)
        return
    for name in args.graphs:
        compare(name, args.data)


if __name__ == "__main__":
    main()
