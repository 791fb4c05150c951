"""CSFCube: computer science papers asked for by example and facet (Mysore et al. 2021).

Each query has a pool of candidates with grades 0 to 3. ``<facet>/<metric>`` is the mean of the
two folds' test means, so that every query counts once in a test half; ``<facet>_dev`` is the dev
half of fold 1; ``aggregated`` pools the queries of all facets present inside each fold. Binary
metrics take grade 2 or more as relevant. A query is taken out of its own pool (the source has one
that stands in it, with grade 3).

A system that compares sentences uses the query's sentences of the facet alone, against all
sentences of a candidate; one that compares facets (`facet_model`) those of the facet on both sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.evaluation.benchmarks.pools import (
    Corrections,
    find_file,
    pool_distances,
    read_json,
    read_pools,
)
from sciembed_train.evaluation.benchmarks.result import TIED, Result, counted, described, mean
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.metrics import graded
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import TIE_RULES, TieRule, rank_pool
from sciembed_train.evaluation.systems import System
from sciembed_train.evaluation.trec_run import is_run
from sciembed_train.inference.paper_file import PaperFile

THRESHOLD = 2
PAPER_FILES = ("abstracts-csfcube-preds.jsonl", "abstracts-csfcube.jsonl")
LABEL_FIELDS = ("pred_labels", "sentence_labels")
# Labels of the sentences of a facet; any other facet has the label of its own name. A
# label may end in `_label`.
ASKING = {"background": ("background", "objective")}
# Query to its candidates, best first, each with a distance that rises from one to the next, or not.
Ranking = dict[str, list[tuple[str, float]]]


@dataclass
class Facet:
    """The judged pools of one facet.

    Args:
        pools: query to its candidates' grades, without the query itself.
        corrections: what was corrected in them.
    """

    pools: dict[str, dict[str, int]]
    corrections: Corrections = field(default_factory=Corrections)


@dataclass
class CsfCube:
    """The benchmark's files.

    Args:
        folder: where they lie.
        facets: by name.
        splits: facet to ``fold1_dev``, ``fold1_test``, ``fold2_dev``, ``fold2_test``, each a list
            of ``<query>_<facet>``.
    """

    folder: Path
    facets: dict[str, Facet]
    splits: dict[str, dict[str, list[str]]]

    @classmethod
    def open(cls, folder: str | Path, facet: str | None = None) -> CsfCube:
        """Read pools, grades and folds, of one facet or all.

        The folder holds ``test-pid2anns-csfcube-<facet>.json`` and ``evaluation_splits.json``.

        Raises:
            UserError: a file is missing or not as described.
        """
        folder = Path(folder)
        start, end = "test-pid2anns-csfcube-", ".json"
        files = {
            path.name.removeprefix(start).removesuffix(end): path
            for path in sorted(folder.glob(f"{start}*{end}"))
        }
        if not files:
            raise UserError(f"{folder}: holds no {start}<facet>{end}; give the CSFCube folder.")
        if facet is not None and facet not in files:
            raise UserError(f"--facet {facet}: {folder} has {', '.join(files)}.")
        splits_file = folder / "evaluation_splits.json"
        splits = read_json(splits_file)
        facets = {name: Facet({}) for name in files if facet in (None, name)}
        for name, facet_data in facets.items():
            facet_data.pools.update(read_pools(files[name], facet_data.corrections))
            for half in ("fold1_dev", "fold1_test", "fold2_test"):
                listed = splits.get(name, {}).get(half) if isinstance(splits, dict) else None
                if not listed:
                    raise UserError(f"{splits_file}: `{name}.{half}` is missing or empty.")
                for entry in listed:
                    if entry.removesuffix(f"_{name}") not in facet_data.pools:
                        raise UserError(
                            f"{splits_file}: `{name}.{half}` names {entry!r}, which has no "
                            f"judgements in {files[name].name}."
                        )
        return cls(folder, facets, splits)

    def half(self, facet: str, name: str) -> list[str]:
        """Keys ``<facet>/<query>`` of a half of a fold."""
        return [f"{facet}/{entry.removesuffix(f'_{facet}')}" for entry in self.splits[facet][name]]


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    data = CsfCube.open(settings.data, settings.facet)
    if settings.ranking is not None and not is_run(settings.ranking):
        if settings.run_to is not None:
            raise UserError("--run_to is of a model or a TREC run; leave it out for a JSON file.")
        rankings = read_rankings(settings.ranking, data, settings.facet)
        return str(settings.ranking), score(data, rankings, settings.ties)
    papers = PaperFile(settings.papers or paper_file(Path(settings.data)))
    system = systems.system(settings)
    candidates = settings.score.scorer == "facet"
    labels = read_labels(papers, data, candidates) if system.by_sentence else None
    return described(system, evaluate(data, system, papers, labels, settings.ties))


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is one of this benchmark."""
    return any(folder.glob("test-pid2anns-csfcube-*.json"))


def score(data: CsfCube, rankings: Mapping[str, Ranking], ties: TieRule = "expected") -> Result:
    """Metrics of ranked pools, by facet, and over all facets where there are several.

    ``rankings`` holds for each facet every query's candidates; ``ties`` says how those at equal
    distances are ordered.

    Raises:
        UserError: a ranking lacks or repeats a candidate, or ranks one that was not judged.
    """
    per_query: dict[str, dict[str, float]] = {}
    tied = 0
    for facet, ranking in rankings.items():
        for query, grades in data.facets[facet].pools.items():
            if query not in ranking:
                raise UserError(f"The ranking of facet {facet} has no query {query}.")
            candidates = [(paper, far) for paper, far in ranking[query] if paper != query]
            ids = [paper for paper, _ in candidates]
            _check_pool(facet, query, ids, grades)
            distances = np.array([far for _, far in candidates])
            ranked = rank_pool(distances, [grades[paper] for paper in ids], ids, ties)
            per_query[f"{facet}/{query}"] = graded(ranked.grades, THRESHOLD, ranked.places)
            tied += ranked.tied
    groups = {facet: [facet] for facet in rankings}
    if len(rankings) > 1:
        groups["aggregated"] = list(rankings)
    metrics: dict[str, float] = {}
    for suffix, halves in (("", ("fold1_test", "fold2_test")), ("_dev", ("fold1_dev",))):
        for group, facets in groups.items():
            folds = [
                mean(per_query[key] for facet in facets for key in data.half(facet, half))
                for half in halves
            ]
            metrics |= {f"{group}{suffix}/{name}": v for name, v in mean(folds).items()}
    own = [f"{q} ({f})" for f in rankings for q in data.facets[f].corrections.own]
    twice = sum(data.facets[f].corrections.twice for f in rankings)
    other = sum(len(r.keys() - data.facets[f].pools.keys()) for f, r in rankings.items())
    notes = Corrections(own, twice).notes()
    notes += counted({"{} ranked queries have no judgements: left out.": other, TIED: tied})
    return Result(
        metrics,
        per_query,
        {
            "facets": list(rankings),
            "queries": len(per_query),
            "threshold": THRESHOLD,
            "protocol": "<facet>: mean of the test means of two folds; <facet>_dev: fold 1's dev",
            "ties": TIE_RULES[ties],
            "queries_tied": tied,
            "own_pool_left_out": own,
        },
        notes,
    )


def evaluate(
    data: CsfCube,
    system: System,
    papers: Iterable[Paper],
    labels: Mapping[str, Sequence[str]] | None = None,
    ties: TieRule = "expected",
) -> Result:
    """Scores of a system that ranks each query's pool by title and abstract.

    ``papers`` is read once; ``labels`` (`read_labels`) are for a system that compares sentences;
    ``ties`` says how candidates at equal distances are ordered.

    Raises:
        UserError: a query or candidate has no text.
    """
    needed = {p for f in data.facets.values() for q, pool in f.pools.items() for p in (q, *pool)}
    rows = {paper.paper_id: paper for paper in papers if paper.paper_id in needed}
    missing = sorted(needed - rows.keys())
    if missing:
        raise UserError(
            f"{len(missing)} of {len(needed)} papers of the pools are not among the papers "
            f"({', '.join(missing[:3])}, ...). Give the whole file with --papers."
        )
    queries = [(name, query) for name, facet in data.facets.items() for query in facet.pools]
    pools = [(query, list(data.facets[name].pools[query])) for name, query in queries]
    query_sentences, whole = None, 0
    if system.by_sentence:
        query_sentences = [
            asking_sentences(name, (labels or {}).get(query, ())) for name, query in queries
        ]
        whole = query_sentences.count(None)
    rankings: dict[str, Ranking] = {facet: {} for facet in data.facets}
    names = [f"{name}/{query}" for name, query in queries]
    grades = [np.array(list(data.facets[name].pools[query].values())) for name, query in queries]

    def facet_sentences(at: int, paper: str) -> list[int] | None:
        own_labels = (labels or {}).get(paper)
        return None if own_labels is None else asking_sentences(queries[at][0], own_labels) or []

    rows_of_pools = pool_distances(
        system, rows, pools, query_sentences, facet_sentences, names, grades
    )
    for (name, query), (_, pool), distances in zip(queries, pools, rows_of_pools, strict=True):
        rankings[name][query] = list(zip(pool, distances.tolist(), strict=True))
    result = score(data, rankings, ties)
    result.settings["papers"] = len(rows)
    result.query_texts = {f"{name}/{query}": rows[query].title or "" for name, query in queries}
    if system.by_sentence:
        result.settings["asking"] = "sentences of the facet; background has objective with it"
        result.settings["queries_without_a_sentence_of_the_facet"] = whole
    note = "{} queries have no sentence labelled for their facet: all their sentences are compared."
    result.notes += counted({note: whole})
    return result


def read_labels(papers: PaperFile, data: CsfCube, candidates: bool = False) -> dict[str, list[str]]:
    """The labels of the sentences of each query that has any, those of blank sentences left out.

    With ``candidates`` those of candidates as well.

    A row has a list of sentences as ``abstract`` and as many labels in one of `LABEL_FIELDS`.

    Raises:
        UserError: one of these papers has other than one label a sentence.
    """
    pools = [item for facet in data.facets.values() for item in facet.pools.items()]
    needed = {query for query, _ in pools}
    if candidates:
        needed |= {paper for _, pool in pools for paper in pool}
    labels_of: dict[str, list[str]] = {}
    for row_number, row, paper in papers.with_rows():
        if paper.paper_id not in needed:
            continue
        name = next((n for n in LABEL_FIELDS if row.get(n)), None)
        if name is None:
            continue
        labels, abstract = row[name], row["abstract"]
        lists = isinstance(labels, list | tuple) and isinstance(abstract, list | tuple)
        if not lists or len(labels) != len(abstract):
            raise UserError(
                f"{papers.table.where(row_number)}: `{name}` must be a list with a label for every "
                "sentence of `abstract`, which is a list too. Correct the row."
            )
        labels_of[paper.paper_id] = [
            str(label) for label, s in zip(labels, abstract, strict=True) if s and s.strip()
        ]
    return labels_of


def asking_sentences(facet: str, labels: Sequence[str]) -> list[int] | None:
    """Which of a query's sentences ask for a facet; None, for all of them, where none is of it."""
    labels_of_facet = ASKING.get(facet, (facet,))
    chosen = [i for i, x in enumerate(labels) if x.removesuffix("_label") in labels_of_facet]
    return chosen or None


def read_rankings(
    source: str | Path, data: CsfCube, facet: str | None = None
) -> dict[str, Ranking]:
    """Rankings from a file: ``{query: [[paper, score], ...]}`` or ``{query: [paper, ...]}``.

    Rising scores are distances, falling ones similarities. Without scores the order is taken as it
    stands. ``source`` may be a folder of such files;
    the facet is read from a file's name, or is ``facet``.

    Raises:
        UserError: unreadable, or no facet, or scores in no order.
    """
    source = Path(source)
    if source.is_dir():
        files = {
            name: [p for p in sorted(source.glob("*.json")) if _names(p, name)]
            for name in data.facets
        }
        found = {name: paths for name, paths in files.items() if paths}
        if not found:
            raise UserError(f"{source}: no .json file with {' or '.join(data.facets)} in its name.")
        for name, paths in found.items():
            if len(paths) > 1:
                raise UserError(
                    f"{source}: {len(paths)} files are named for facet {name} "
                    f"({paths[0].name}, {paths[1].name}); give one with --ranking."
                )
        return {name: _ranking(paths[0]) for name, paths in found.items()}
    if not source.is_file():
        raise UserError(f"{source}: {why_no_file(source, 'file or folder')} (--ranking).")
    if facet is None:
        named = [name for name in data.facets if _names(source, name)]
        if len(named) != 1:
            raise UserError(
                f"{source}: the file's name does not say which facet it ranks; "
                f"give --facet ({', '.join(data.facets)})."
            )
        facet = named[0]
    return {facet: _ranking(source)}


def paper_file(folder: Path) -> Path:
    """The benchmark's own file of papers.

    Raises:
        UserError: there is none.
    """
    return find_file(folder, PAPER_FILES, "say where the texts are with --papers")


def _names(path: Path, facet: str) -> bool:
    return facet in re.split(r"[^a-z]+", path.name.lower())


def _ranking(path: Path) -> Ranking:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object of queries, found {type(content).__name__}.")
    ranking: Ranking = {}
    for query, entries in content.items():
        try:
            if not all(isinstance(e, list) for e in entries):
                ranking[query] = [(_paper(e), float(rank)) for rank, e in enumerate(entries)]
                continue
            pairs = [(_paper(paper), float(score)) for paper, score in entries]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{path}: query {query}: expected a list of [paper, score] or of papers ({error})."
            ) from error
        scores = [score for _, score in pairs]
        if unranked := [paper for paper, score in pairs if math.isnan(score)]:
            raise UserError(
                f"{path}: query {query}: the score of {unranked[0]} is not a number; whatever gave "
                "it is damaged."
            )
        if scores == sorted(scores, reverse=True):
            pairs = [(paper, -score) for paper, score in pairs]
        elif scores != sorted(scores):
            raise UserError(
                f"{path}: query {query}: the scores neither rise nor fall; list the candidates "
                "best first."
            )
        ranking[query] = pairs
    return ranking


def _paper(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{value!r} is no paper id")


def _check_pool(facet: str, query: str, ranked: list[str], grades: Mapping[str, int]) -> None:
    seen = set(ranked)
    problems = (
        (len(ranked) - len(seen), "twice or more", "list each once"),
        (len(seen - grades.keys()), "that were not judged", "take them out"),
        (len(grades.keys() - seen), "missing", "rank the whole pool"),
    )
    for count, what, remedy in problems:
        if count:
            raise UserError(
                f"The ranking of query {query}, facet {facet}, has {count} candidates {what} "
                f"(its pool has {len(grades)} beside the query); {remedy}."
            )
