"""SciDocs, Cohan et al. (2020), in the layout that its repository reads.

A folder holds ``paper_metadata_view_cite_read.json`` and ``paper_metadata_mag_mesh.json``, objects
of paper id to ``{"title", "abstract", ...}``; ``coview``, ``coread``, ``cite`` and ``cocite`` with
``val.qrel`` and ``test.qrel``, lines ``query 0 paper 0|1``; ``mag`` and ``mesh`` with
``train.csv``, ``val.csv`` and ``test.csv``, columns ``pid`` and ``class_label``. Tasks that are not
there are not scored. Its recommendation task needs a library that can no longer be installed, and
is left out.

The rankings have the original's form beside the standard one (`trec_pools`): by the Euclidean
distance of the unchanged vectors, rounded to 5 decimals. The classifications are the macro F1 of
`probes.classification_probe`. As in the original, it learns from ``train`` alone, in which its cost
is chosen too: ``val`` is what ``--split dev`` predicts in place of ``test``. A labelled paper
without a text has a vector of zeros there, and so it has here.

Shapes: ``N`` labelled papers, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from sciembed_train.corpus.readers.files import COMPRESSED
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.by_example import cell_id, read_rows
from sciembed_train.evaluation.benchmarks.pools import find_file, pool_distances
from sciembed_train.evaluation.benchmarks.result import NoQueriesError, Result, counted, described
from sciembed_train.evaluation.benchmarks.retrieval import read_qrels
from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Vectors
from sciembed_train.evaluation.benchmarks.scirepeval.task_metrics import class_metric
from sciembed_train.evaluation.benchmarks.trec_pools import (
    PoolDistances,
    TrecPool,
    papers_in,
    score_pools,
)
from sciembed_train.evaluation.by_format import Embedder, record_of
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.probes import check_installed, classification_probe
from sciembed_train.evaluation.ranking import TieRule
from sciembed_train.evaluation.systems import System
from sciembed_train.evaluation.trained_titles import WatchedEmbedder
from sciembed_train.inference.paper_file import PaperFile
from sciembed_train.losses.similarity import pairwise_euclidean

RANKINGS = ("coview", "coread", "cite", "cocite")
CLASSIFICATIONS = ("mag", "mesh")
RANKED_PAPERS, LABELLED_PAPERS = (
    "paper_metadata_view_cite_read.json",
    "paper_metadata_mag_mesh.json",
)
METRICS = ("map", "ndcg")
SPLITS = {"test": "test", "dev": "val"}  # to the names of the files
DECIMALS = 5  # of the original's distances
VALUES = 12  # in the original's average
REMEDY = "give the folder of SciDocs as released"


@dataclass
class LabelledPapers:
    """Ids and labels of a task of classification, in the order of the file."""

    ids: list[str]
    labels: list[str]


@dataclass
class SciDocs:
    """The judgements and labels of a folder.

    Args:
        pools: of the rankings.
        labelled: of each classification, the papers to learn from and those to predict.
        missing: tasks that are not there.
    """

    pools: list[TrecPool] = field(default_factory=list)
    labelled: dict[str, tuple[LabelledPapers, LabelledPapers]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: str | Path, split: Literal["test", "dev"] = "test") -> SciDocs:
        """Read the tasks of a folder that have this split.

        Raises:
            UserError: there is none, or a file is malformed.
        """
        folder, self, name = Path(folder), cls(), SPLITS[split]
        for task in CLASSIFICATIONS:
            if not _has(folder / task, f"{name}.csv"):
                self.missing.append(task)
                continue
            train, asked = (
                read_labels(find_file(folder / task, [f"{part}.csv"], REMEDY))
                for part in ("train", name)
            )
            self.labelled[task] = train, asked
        for task in RANKINGS:
            if not _has(folder / task, f"{name}.qrel"):
                self.missing.append(task)
                continue
            path = find_file(folder / task, [f"{name}.qrel"], REMEDY)
            pools = [TrecPool(task, query, grades) for query, grades in read_qrels(path).items()]
            if not pools:
                raise UserError(f"{path}: holds no line `query 0 paper 0|1`.")
            self.pools += pools
        if not self.pools and not self.labelled:
            raise UserError(
                f"{folder}: holds no task of SciDocs; expected {RANKINGS[0]}/{name}.qrel, "
                f"{CLASSIFICATIONS[0]}/{name}.csv and the others: {REMEDY}."
            )
        return self

    def labelled_papers(self) -> set[str]:
        """The ids of all labelled papers."""
        return {paper for parts in self.labelled.values() for part in parts for paper in part.ids}


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    data = SciDocs.open(settings.data, settings.split)
    if settings.model == "bm25" or settings.score.scorer not in (None, "document"):
        source: System | Embedder = systems.system(settings)
    else:
        source = systems.embedder(settings)
    result = evaluate(data, source, settings.data, settings.papers, settings.ties)
    result.settings["split"] = settings.split
    return described(source, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder has papers of SciDocs."""
    return _has(folder, RANKED_PAPERS) or _has(folder, LABELLED_PAPERS)


def evaluate(
    data: SciDocs,
    source: System | Embedder,
    folder: str | Path,
    papers: str | Path | None = None,
    ties: TieRule = "expected",
) -> Result:
    """Scores of what gives vectors, or of what only ranks: then the classifications are left out.

    Args:
        data: the judgements and labels.
        source: a vector of each text, read as ``proximity`` or ``classification``; or distances.
        folder: where the papers are.
        papers: the papers, where they are elsewhere; one file for all tasks.
        ties: how candidates at equal distances are ordered.

    Raises:
        UserError: a file of papers is missing or malformed, or none of its papers is asked for.
        NoQueriesError: there is no ranking, and the source gives no vectors.
    """
    if not data.pools and not isinstance(source, Embedder):
        raise NoQueriesError(f"{folder}: holds classifications alone, which need vectors.")
    ranked, labelled = {}, {}  # read before anything is embedded
    if data.pools:
        ranked = read_papers(folder, RANKED_PAPERS, papers, papers_in(data.pools))
    if data.labelled and isinstance(source, Embedder):
        check_installed()
        labelled = read_papers(folder, LABELLED_PAPERS, papers, data.labelled_papers())
    result = Result({}, settings={"queries": 0})
    if data.pools:
        if isinstance(source, Embedder):
            distances = partial(_of_vectors, source)
        else:
            distances = partial(_of_system, source)
        result = score_pools(data.pools, ranked, distances, METRICS, ties)
    rankings, result.metrics = result.metrics, {}
    skipped = 0
    if not isinstance(source, Embedder):
        skipped = len(data.labelled)
    elif data.labelled:
        _classify(data, source, labelled, result)
    values = list(result.metrics.values())
    result.metrics |= rankings
    if values:
        result.metrics["average/f1_macro"] = float(np.mean(values))
    averages = {
        "values": [f"{task}/{form}" for task in RANKINGS for form in ("map_grade1", "ndcg_log2")],
        "original_values": [f"{task}/original_{name}" for task in RANKINGS for name in METRICS],
    }
    for name, keys in averages.items():
        of_rankings = [rankings[key] for key in keys if key in rankings]
        result.metrics[f"average/{name}"] = float(np.mean(values + of_rankings))
        result.settings["averaged_values"] = len(values + of_rankings)
    result.settings["protocol"] = (
        "learns from train alone, cost by its folds; original_: unchanged vectors, distances "
        f"rounded to {DECIMALS} decimals, ties as trec_eval"
    )
    result.notes += counted({"{} classifications need vectors, and are not scored.": skipped})
    if data.missing:
        result.notes.append(f"Not in the folder, and so not scored: {', '.join(data.missing)}.")
    result.notes.append(
        f"The average is of {result.settings['averaged_values']} values; the original's is of "
        f"{VALUES}, two of them of its recommendation task, which is not scored here: its library "
        "(allennlp 0.9) can no longer be installed."
    )
    return result


def read_labels(path: Path) -> LabelledPapers:
    """The rows of a file of labels, columns ``pid`` and ``class_label``.

    Raises:
        UserError: a row is malformed, or there is none.
    """
    rows = [
        (cell_id(place, row, "pid"), cell_id(place, row, "class_label"))
        for place, row in read_rows(path, "labels")
    ]
    if not rows:
        raise UserError(f"{path}: holds no row with `pid` and `class_label`.")
    return LabelledPapers([paper for paper, _ in rows], [label for _, label in rows])


def read_papers(
    folder: str | Path, name: str, papers: str | Path | None, needed: set[str]
) -> dict[str, Paper]:
    """The papers of a file that are needed, by id.

    Raises:
        UserError: there is no such file, it is malformed, or has none of them.
    """
    source = papers or find_file(Path(folder), [name], f"{REMEDY}, or the papers with --papers")
    rows = {paper.paper_id: paper for paper in PaperFile(source) if paper.paper_id in needed}
    if not rows:
        raise UserError(
            f"{source}: has none of the {len(needed)} papers that are judged or labelled "
            f"({min(needed)}, ...). Give the file of papers with --papers."
        )
    return rows


def _classify(
    data: SciDocs, embedder: Embedder, papers: Mapping[str, Paper], result: Result
) -> None:
    """Add the macro F1 of every classification, and what is to be said of it."""
    asked = {paper for _, test in data.labelled.values() for paper in test.ids}
    vectors = _embed(embedder, papers, asked, "classification")
    name, f1 = class_metric("f1_macro", multi_label=False)
    zeros = unfinished = untuned = 0
    for task, (train, test) in data.labelled.items():
        number = {label: at for at, label in enumerate(sorted({*train.labels, *test.labels}))}
        y, truth = (np.array([number[label] for label in part.labels]) for part in (train, test))
        x, test_vectors = (_rows(vectors, part.ids) for part in (train, test))
        found = classification_probe(x, y, test_vectors)
        result.metrics[f"{task}/{name}"] = f1(truth, found.predictions)
        zeros += sum(paper not in papers for part in (train, test) for paper in part.ids)
        unfinished, untuned = unfinished + found.unfinished, untuned + found.untuned
        result.settings[task] = {
            "train": len(y),
            "test": len(truth),
            "classes": len(number),
            "costs": found.costs,
        }
    result.settings["labelled_without_their_text"] = zeros
    result.notes += counted(
        {
            "{} labelled papers are not among the papers: a vector of zeros each, as in the "
            "original.": zeros,
            "{} probes have too few papers for a grid: the default cost.": untuned,
            "{} probes stopped at the iteration limit before they converged.": unfinished,
        }
    )


def _rows(vectors: Vectors, ids: Sequence[str]) -> Float32[np.ndarray, "N D"]:
    """The vectors of papers, zeros where there is none."""
    rows = np.zeros((len(ids), vectors.rows.shape[1]), dtype=np.float32)
    there = np.array([paper in vectors for paper in ids])
    rows[there] = vectors.of([paper for paper in ids if paper in vectors])
    return rows


def _of_system(
    system: System, papers: Mapping[str, Paper], asked: Sequence[tuple[str, Sequence[str]]]
) -> PoolDistances:
    for distances in pool_distances(system, papers, asked):
        yield distances, np.round(distances.astype(np.float64), DECIMALS)


def _of_vectors(
    embedder: Embedder, papers: Mapping[str, Paper], asked: Sequence[tuple[str, Sequence[str]]]
) -> PoolDistances:
    vectors = _embed(embedder, papers, {query for query, _ in asked}, "proximity")
    compared = vectors.as_unit() if embedder.similarity == "cosine" else vectors
    for query, candidates in asked:
        near, far = (torch.from_numpy(compared.of(names)) for names in ([query], candidates))
        # The original compares the unchanged vectors, in float64.
        difference = vectors.of(candidates).astype(np.float64) - vectors.of([query])
        original = np.round(np.linalg.norm(difference, axis=1), DECIMALS)
        yield pairwise_euclidean(near, far)[0].numpy(), original


def _embed(embedder: Embedder, papers: Mapping[str, Paper], asked: set[str], read: str) -> Vectors:
    """The vectors of papers, read for a format; those asked for are counted apart."""
    records = {paper: record_of(row.title, row.sentences) for paper, row in sorted(papers.items())}
    if isinstance(embedder, WatchedEmbedder):
        embedder.count(
            (record for paper, record in records.items() if paper in asked),
            (record for paper, record in records.items() if paper not in asked),
        )
    return Vectors(records, embedder.embed(records, read))


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{ending}").is_file() for ending in ("", *COMPRESSED))
