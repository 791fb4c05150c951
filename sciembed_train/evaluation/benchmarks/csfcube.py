"""CSFCube: computer science papers asked for by example and facet (Mysore et al. 2021).

Each query has a pool of candidates with grades 0 to 3. ``<facet>/<metric>`` is the mean of the
two folds' test means, so that every query counts once in a test half; ``<facet>_dev`` is the dev
half of fold 1; ``aggregated`` pools the queries of all facets present inside each fold. Binary
metrics take grade 2 or more as relevant. A query is taken out of its own pool (the source has one
that stands in it, with grade 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.validate import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import Result, mean
from sciembed_train.evaluation.metrics import graded
from sciembed_train.evaluation.retrieval import id_order, nearest
from sciembed_train.evaluation.systems import Search, System

THRESHOLD = 2
PAPER_FILES = ("abstracts-csfcube-preds.jsonl", "abstracts-csfcube.jsonl")
Ranking = dict[str, list[str]]  # query -> candidates, best first


@dataclass
class Facet:
    """The judged pools of one facet.

    Args:
        pools: query to its candidates' grades, without the query itself.
        own: queries that stood in their own pool.
    """

    pools: dict[str, dict[str, int]]
    own: list[str]


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
        """Read pools, grades and folds.

        Args:
            folder: with ``test-pid2anns-csfcube-<facet>.json`` and ``evaluation_splits.json``.
            facet: this one only.

        Raises:
            UserError: a file is missing or not as described.
        """
        folder = Path(folder)
        start, end = "test-pid2anns-csfcube-", ".json"
        found = {
            path.name.removeprefix(start).removesuffix(end): path
            for path in sorted(folder.glob(f"{start}*{end}"))
        }
        if not found:
            raise UserError(f"{folder}: holds no {start}<facet>{end}; give the CSFCube folder.")
        if facet is not None and facet not in found:
            raise UserError(f"--facet {facet}: {folder} has {', '.join(found)}.")
        splits = _read(folder / "evaluation_splits.json")
        facets = {
            name: _facet(path) for name, path in found.items() if facet is None or facet == name
        }
        for name, one in facets.items():
            for half in ("fold1_dev", "fold1_test", "fold2_test"):
                listed = splits.get(name, {}).get(half) if isinstance(splits, dict) else None
                if not listed:
                    raise UserError(
                        f"{folder / 'evaluation_splits.json'}: `{name}.{half}` is missing or empty."
                    )
                for entry in listed:
                    if entry.removesuffix(f"_{name}") not in one.pools:
                        raise UserError(
                            f"{folder / 'evaluation_splits.json'}: `{name}.{half}` names "
                            f"{entry!r}, which has no judgements in {found[name].name}."
                        )
        return cls(folder, facets, splits)

    def half(self, facet: str, name: str) -> list[str]:
        """Keys ``<facet>/<query>`` of a half of a fold."""
        return [f"{facet}/{entry.removesuffix(f'_{facet}')}" for entry in self.splits[facet][name]]


def score(data: CsfCube, rankings: Mapping[str, Ranking]) -> Result:
    """Metrics of ranked pools, by facet, and over all facets where there are several.

    Args:
        data: the benchmark.
        rankings: for each facet, every query's candidates, best first.

    Raises:
        UserError: a ranking lacks or repeats a candidate, or ranks one that was not judged.
    """
    per_query: dict[str, dict[str, float]] = {}
    for facet, ranking in rankings.items():
        for query, grades in data.facets[facet].pools.items():
            if query not in ranking:
                raise UserError(f"The ranking of facet {facet} has no query {query}.")
            ranked = [paper for paper in ranking[query] if paper != query]
            _check_pool(facet, query, ranked, grades)
            per_query[f"{facet}/{query}"] = graded([grades[p] for p in ranked], THRESHOLD)
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
    own = [f"{q} ({f})" for f in rankings for q in data.facets[f].own]
    other = sum(len(r.keys() - data.facets[f].pools.keys()) for f, r in rankings.items())
    notes = [f"Taken out of its own pool: query {', '.join(own)}."] if own else []
    if other:
        notes.append(f"{other} ranked queries have no judgements: left out.")
    return Result(
        metrics,
        per_query,
        {
            "facets": list(rankings),
            "queries": len(per_query),
            "threshold": THRESHOLD,
            "protocol": "<facet>: mean of the test means of two folds; <facet>_dev: fold 1's dev",
            "ties": "distance, then paper id",
            "own_pool_left_out": own,
        },
        notes,
    )


def evaluate(data: CsfCube, system: System, papers: Iterable[Paper]) -> Result:
    """Scores of a system that ranks each query's pool by title and abstract.

    Args:
        data: the benchmark.
        system: model or baseline.
        papers: every query and candidate, and any others; read once.

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
    ids = sorted(rows)
    place = {paper: i for i, paper in enumerate(ids)}
    asked = sorted({q for facet in data.facets.values() for q in facet.pools})
    queries = np.array([place[q] for q in asked])
    texts = ((rows[i].title, rows[i].abstract) for i in ids)
    everything = np.arange(len(ids))
    order = id_order(ids)
    rankings: dict[str, Ranking] = {facet: {} for facet in data.facets}
    distances = system.distances(Search(texts, len(ids), queries, everything))
    for query, row in zip(asked, distances, strict=True):
        for name, facet in data.facets.items():
            if query in facet.pools:
                pool = np.array([place[p] for p in facet.pools[query]])
                ranked = pool[nearest(row[pool], order[pool])]
                rankings[name][query] = [ids[i] for i in ranked]
    result = score(data, rankings)
    result.settings["papers"] = len(ids)
    return result


def read_rankings(
    source: str | Path, data: CsfCube, facet: str | None = None
) -> dict[str, Ranking]:
    """Somebody's ranked pools: ``{query: [[paper, score], ...]}`` or ``{query: [paper, ...]}``.

    Rising scores are distances, falling ones similarities; equal scores are put in order of
    paper id. Without scores the order is taken as it stands.

    Args:
        source: a JSON file, or a folder of them; the facet is read from the file's name.
        data: the benchmark, opened with ``facet``.
        facet: of a single file whose name does not say it.

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
        raise UserError(f"{source}: there is no such file or folder (--ranking).")
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
    for name in PAPER_FILES:
        for ending in ("", ".gz", ".zst"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise UserError(
        f"{folder}: holds no {' or '.join(PAPER_FILES)} (.gz, .zst); say where the texts are "
        "with --papers."
    )


def _names(path: Path, facet: str) -> bool:
    return facet in re.split(r"[^a-z]+", path.name.lower())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}).") from error


def _facet(path: Path) -> Facet:
    content = _read(path)
    pools: dict[str, dict[str, int]] = {}
    own: list[str] = []
    try:
        for query, entry in content.items():
            papers, grades = entry["cands"], entry["relevance_adju"]
            pool = {str(p): int(g) for p, g in zip(papers, grades, strict=True)}
            if len(pool) != len(papers):
                raise ValueError(f"query {query} has a candidate twice")
            if pool.pop(query, None) is not None:
                own.append(query)
            pools[query] = pool
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected {{query: {{'cands': [...], 'relevance_adju': [...]}}}}; {error!r}."
        ) from error
    return Facet(pools, own)


def _ranking(path: Path) -> Ranking:
    content = _read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object of queries, found {type(content).__name__}.")
    ranking: Ranking = {}
    for query, entries in content.items():
        try:
            if not all(isinstance(e, list) for e in entries):
                ranking[query] = [_paper(e) for e in entries]
                continue
            pairs = [(_paper(paper), float(score)) for paper, score in entries]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{path}: query {query}: expected a list of [paper, score] or of papers ({error})."
            ) from error
        scores = [score for _, score in pairs]
        if scores == sorted(scores):
            pairs.sort(key=lambda pair: (pair[1], pair[0]))
        elif scores == sorted(scores, reverse=True):
            pairs.sort(key=lambda pair: (-pair[1], pair[0]))
        else:
            raise UserError(
                f"{path}: query {query}: the scores neither rise nor fall; list the candidates "
                "best first."
            )
        ranking[query] = [paper for paper, _ in pairs]
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
