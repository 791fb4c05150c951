"""Labels of papers, such as disease classes or arXiv categories: do papers of a label lie together?

A folder holds ``papers`` and ``labels`` with the columns ``paper_id`` and ``label``; or the papers
have a field ``label`` or ``primary_category``. Three questions of the same vectors:

- nearest neighbours, each paper left out in turn: ``knn10_accuracy`` of the majority of the ten
  nearest, ``precision10``, the share of these that have the paper's label;
- a linear probe (`probes.classification_probe` with its default cost) in five stratified folds:
  ``probe_accuracy``, and ``probe_f1_macro`` over all folds;
- k-means with as many clusters as labels: ``v_measure`` (Rosenberg and Hirschberg 2007).

A baseline without vectors has neighbours alone. One vector for everything has the accuracies of
the largest label.

Shapes: ``N`` papers, ``D`` width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.by_example import cell_id, read_rows
from sciembed_train.evaluation.benchmarks.result import (
    NoQueriesError,
    Result,
    counted,
    described,
    mean,
)
from sciembed_train.evaluation.benchmarks.retrieval import find, first_paper, papers_of
from sciembed_train.evaluation.by_format import record_of
from sciembed_train.evaluation.candidates import hash_order
from sciembed_train.evaluation.distances import distance_rows, refuse_nan, to_unit
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.probes import classification_probe
from sciembed_train.evaluation.systems import Search
from sciembed_train.evaluation.trained_titles import WatchedEmbedder
from sciembed_train.inference.paper_file import PaperFile

NEIGHBOURS = 10
FOLDS = 5
FIELDS = ("label", "primary_category")
SEED = 42
FORMAT = "classification"
DRAWN = 5000  # papers, where the settings do not say


@dataclass
class Labelled:
    """Papers with a label each.

    Args:
        papers: ``N`` of them.
        labels: the number of each one's label, ``[N]``.
        names: of the labels.
        left_out: counts of what was left out, by the key of the results file.
    """

    papers: list[Paper]
    labels: Int64[np.ndarray, " N"]
    names: list[str]
    left_out: dict[str, int]


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    place = Path(settings.data)
    sample = DRAWN if settings.sample is None else settings.sample
    data = read_labelled(place, settings.papers, sample, settings.seed)
    if settings.model == "bm25" or settings.score.scorer not in (None, "document"):
        system = systems.system(settings)
        everything = np.arange(len(data.papers))
        texts = ((paper.title, paper.abstract) for paper in data.papers)
        rows = system.distances(Search(texts, len(data.papers), everything, everything))
        return described(system, score(data, rows))
    embedder = systems.embedder(settings)
    records = {p.paper_id: record_of(p.title, p.sentences) for p in data.papers}
    if isinstance(embedder, WatchedEmbedder):
        embedder.count(records.values(), records.values())
    vectors = embedder.embed(records, FORMAT)
    compared = vectors.copy()
    if embedder.similarity == "cosine":
        to_unit(compared)
    result = score(data, distance_rows(compared, compared), vectors)
    result.settings["similarity"] = embedder.similarity
    return described(embedder, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is one of this benchmark."""
    try:
        return "label" in next(iter(read_rows(find(folder, "labels"), "labels")))[1]
    except StopIteration:
        return False
    except UserError:
        return _field_of(folder) is not None


def read_labelled(
    place: Path, papers: str | Path | None = None, sample: int = 0, seed: int = 0
) -> Labelled:
    """The papers with a text and a label that `FOLDS` of the papers drawn have, or more.

    Args:
        place: a folder of papers and labels, or papers with a field of labels.
        papers: the papers, where they are elsewhere.
        sample: most papers, drawn by a hash of seed and id; 0 for all.
        seed: of the draw.

    Raises:
        UserError: a file is missing or malformed.
        NoQueriesError: fewer than two labels have that many papers.
    """
    label_of: dict[str, str] = {}
    try:
        path: Path | None = find(place, "labels")
    except UserError:
        path = None
    if path is not None:
        for where, row in read_rows(path, "labels"):
            paper, label = cell_id(where, row, "paper_id"), cell_id(where, row, "label")
            if label_of.setdefault(paper, label) != label:
                raise UserError(f"{where}: paper {paper} was given before, with another label.")
    source = papers or (papers_of(place) if path is None else find(place, "papers"))
    found: list[Paper] = []
    without_label = without_text = 0
    for _, row, paper in PaperFile(source).with_rows():
        if path is None:
            name = next((str(row[field]) for field in FIELDS if row.get(field)), None)
        else:
            name = label_of.get(paper.paper_id)
        without_label += name is None
        if name is not None and has_text(paper.title, paper.abstract):
            label_of[paper.paper_id] = name
            found.append(paper)
        without_text += name is not None and not has_text(paper.title, paper.abstract)
    if not found and path is None:
        raise UserError(
            f"{place}: has no labels. Give a file `labels` with paper_id and label, or papers with "
            f"a field {' or '.join(FIELDS)}."
        )
    ids = [paper.paper_id for paper in found]
    drawn = sorted(hash_order(ids, seed)[:sample]) if sample else list(range(len(ids)))
    counts = Counter(label_of[ids[at]] for at in drawn)
    names = sorted(name for name, count in counts.items() if count >= FOLDS)
    if len(names) < 2:
        raise NoQueriesError(f"{place}: fewer than two labels have {FOLDS} papers or more.")
    number = {name: at for at, name in enumerate(names)}
    kept = [found[at] for at in drawn if label_of[ids[at]] in number]
    return Labelled(
        kept,
        np.array([number[label_of[paper.paper_id]] for paper in kept], dtype=np.int64),
        names,
        {
            "papers_without_label_left_out": without_label,
            "papers_without_text_left_out": without_text,
            "papers_not_drawn": len(found) - len(drawn),
            "papers_of_rare_labels_left_out": len(drawn) - len(kept),
        },
    )


def score(
    data: Labelled,
    rows: Iterator[Float32[np.ndarray, " N"]],
    vectors: Float32[np.ndarray, "N D"] | None = None,
) -> Result:
    """Scores of neighbours, and of a probe and clusters where there are vectors.

    Args:
        data: the papers.
        rows: the distance of every paper to each in turn.
        vectors: of the papers; None for a baseline without any.
    """
    per_query: dict[str, dict[str, float]] = {}
    for own, (paper, row) in enumerate(zip(data.papers, rows, strict=True)):
        per_query[paper.paper_id] = of_neighbours(row, data.labels, own)
    metrics: dict[str, float] = {}
    unfinished = 0
    if vectors is not None:
        predicted, unfinished = probed(vectors, data.labels)
        for row, right in zip(per_query.values(), predicted == data.labels, strict=True):
            row["probe_accuracy"] = float(right)
        from sklearn.metrics import f1_score

        f1: Any = f1_score  # its annotations know text alone for `zero_division`
        macro = f1(data.labels, predicted, average="macro", zero_division=0)
        metrics["labels/probe_f1_macro"] = float(macro)
        metrics["labels/v_measure"] = clustered(vectors, data.labels)
    means = {f"labels/{name}": value for name, value in mean(per_query.values()).items()}
    largest = np.bincount(data.labels).max() / len(data.labels)
    note = "{} probes stopped at the iteration limit before they converged."
    return Result(
        means | metrics,
        per_query,
        {
            "queries": len(per_query),
            "labels": len(data.names),
            "largest_label": float(largest),
            **data.left_out,
            "protocol": f"{NEIGHBOURS} nearest, {FOLDS} folds of a linear probe, k-means",
        },
        counted({note: unfinished}),
        query_texts={paper.paper_id: paper.title or "" for paper in data.papers},
    )


def of_neighbours(
    distances: Float32[np.ndarray, " N"], labels: Int64[np.ndarray, " N"], own: int
) -> dict[str, float]:
    """The metrics of one paper's nearest neighbours, itself left out.

    Of papers at the distance of the last neighbour each has the same part of the votes that are
    left; where labels have as many votes, one of them is right with its share.

    Raises:
        UserError: a distance is nan.
    """
    refuse_nan(distances)
    row = distances.copy()
    row[own] = np.inf
    k = min(NEIGHBOURS, len(row) - 1)
    last = np.partition(row, k - 1)[k - 1]
    nearer, at = row < last, row == last
    at[own] = False
    size = int(labels.max()) + 1
    votes = np.bincount(labels[nearer], minlength=size).astype(np.float64)
    votes += np.bincount(labels[at], minlength=size) * ((k - nearer.sum()) / at.sum())
    first = votes >= votes.max() - 1e-9
    return {
        f"knn{NEIGHBOURS}_accuracy": float(first[labels[own]] / first.sum()),
        f"precision{NEIGHBOURS}": float(votes[labels[own]] / k),
    }


def probed(
    vectors: Float32[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " N"], int]:
    """The label that a probe of the other folds gives each paper; probes that did not converge."""
    from sklearn.model_selection import StratifiedKFold

    predicted = np.empty(len(labels), dtype=np.int64)
    unfinished = 0
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, test in folds.split(vectors, labels):
        found = classification_probe(vectors[train], labels[train], vectors[test], grid=False)
        predicted[test] = found.predictions
        unfinished += found.unfinished
    return predicted, unfinished


def clustered(vectors: Float32[np.ndarray, "N D"], labels: Int64[np.ndarray, " N"]) -> float:
    """The V-measure of k-means, the best of three starts; 0 where all vectors are one."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import v_measure_score

    distinct = len(np.unique(vectors, axis=0))
    if distinct < 2:
        return 0.0
    clusters = min(distinct, int(labels.max()) + 1)
    starts: Any = 3  # annotated as text alone
    found = KMeans(clusters, n_init=starts, random_state=SEED).fit_predict(vectors)
    return float(v_measure_score(labels, found))


def _field_of(place: Path) -> str | None:
    """The field of labels that the first paper has."""
    first = first_paper(place)
    return next((field for field in FIELDS if first is not None and first[0].get(field)), None)
