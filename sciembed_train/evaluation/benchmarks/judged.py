"""Papers asked for by example, over judged pools, as Aspire (Mysore et al. 2022) released them.

RELISH (Brown et al. 2019), TRECCOVID-RF, and the four tasks of SciDocs (Cohan et al. 2020). A
folder holds ``abstracts-<name>.jsonl``, ``test-pid2anns-<name>.json`` (`pools.read_pools`) and
``<name>-evaluation_splits.json``, ``{"dev": [query, ...], "test": [query, ...]}``.
``<name>/<metric>`` is the mean over the test queries, ``<name>_dev/<metric>`` over the dev queries.

Shapes: ``K`` candidates of one query.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
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
from sciembed_train.inference.paper_file import PaperFile

# Least grade that the binary metrics take as relevant. RELISH has 0, 1 (partial), 2; the others
# 0 and 1.
THRESHOLDS = {
    "relish": 2,
    **dict.fromkeys(("treccovid", "scidcite", "scidcocite", "scidcoread", "scidcoview"), 1),
}
# What is left out of the numbers, or odd in them, by the count in the settings.
NOTES = {
    "queries_in_no_split": "{} judged queries are in no split: left out.",
    "queries_without_candidates": "{} queries have no candidate: left out.",
    "queries_without_judgements": "{} queries of the splits have no judgements: left out.",
    "queries_without_their_text": "{} queries are not among the papers: left out.",
    "queries_without_candidates_texts": "{} queries have no candidate among the papers: left out.",
    "candidates_without_their_text": "{} candidates are not among the papers: left out of pools.",
    "papers_with_empty_text": "{} papers have no text; they are ranked all the same.",
    "queries_without_relevant": "{} queries have no relevant candidate; they score 0.",
    "queries_tied": TIED,
}


@dataclass
class Judged:
    """A collection's judgements.

    Args:
        name: of the collection.
        splits: ``dev`` and ``test``, the queries of each that have candidates.
        candidates: query to its candidates, as positions in ``ids``, ``[K]``. Numbers, not
            dictionaries: TRECCOVID-RF judges some ten million pairs.
        grades: query to its candidates' grades, ``[K]``.
        ids: of every candidate.
        counts: what was left out, by reason.
        corrections: what was put right.
    """

    name: str
    splits: dict[str, list[str]]
    candidates: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    grades: dict[str, NDArray[np.int16]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    corrections: Corrections = field(default_factory=Corrections)

    @classmethod
    def open(cls, name: str, folder: str | Path) -> Judged:
        """Read the judgements and splits of a collection, one of `THRESHOLDS`.

        Raises:
            UserError: a file is missing or not as described, or no test query has a candidate.
        """
        folder = Path(folder)
        remedy = f"give the folder of {name} as released"
        path = find_file(folder, [f"test-pid2anns-{name}.json"], remedy)
        where = folder / f"{name}-evaluation_splits.json"
        self = cls(name, read_splits(where))
        listed = {query for split in self.splits.values() for query in split}
        positions: dict[str, int] = {}
        in_no_split = without = 0
        for query, pool in read_pools(path, self.corrections):
            in_no_split += query not in listed
            without += query in listed and not pool
            if query in listed and pool:
                papers = [positions.setdefault(paper, len(positions)) for paper in pool]
                self.candidates[query] = np.array(papers, np.int32)
                self.grades[query] = np.array(list(pool.values()), np.int16)
        self.ids = list(positions)
        self.splits = {
            split: [query for query in queries if query in self.candidates]
            for split, queries in self.splits.items()
        }
        self.counts = {
            "queries_in_no_split": in_no_split,
            "queries_without_candidates": without,
            "queries_without_judgements": len(listed) - len(self.candidates) - without,
        }
        if not self.splits["test"]:
            raise UserError(f"{path}: no query of `test` in {where.name} has a candidate here.")
        return self


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    data = Judged.open(settings.benchmark, settings.data)
    papers = PaperFile(settings.papers or paper_file(settings.benchmark, settings.data))
    system = systems.system(settings)
    return described(system, evaluate(data, system, papers, settings.ties))


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is one of this collection."""
    return any(folder.glob(f"test-pid2anns-{benchmark}.json*"))


def evaluate(
    data: Judged, system: System, papers: Iterable[Paper], ties: TieRule = "expected"
) -> Result:
    """Scores of a system that ranks each query's pool; ``papers`` is read once.

    ``ties`` says how candidates at equal distances are ordered.

    Raises:
        UserError: no test query is left that is among the papers, with a candidate.
    """
    needed = data.candidates.keys() | set(data.ids)
    rows = {paper.paper_id: paper for paper in papers if paper.paper_id in needed}
    known = np.array([paper in rows for paper in data.ids])
    pools: list[tuple[str, list[str]]] = []
    grades: list[NDArray[np.int16]] = []
    for query, places in data.candidates.items():
        is_known = known[places]
        if query in rows and is_known.any():
            pools.append((query, [data.ids[i] for i in places[is_known]]))
            grades.append(data.grades[query][is_known])
    scored_queries = {query for query, _ in pools}
    tests, devs = ([q for q in data.splits[s] if q in scored_queries] for s in ("test", "dev"))
    if not tests:
        raise UserError(
            f"No test query of {data.name} is among the papers and has a candidate that is. Give "
            "the whole file with --papers."
        )
    per_query, tied = {}, 0
    distances = pool_distances(system, rows, pools, grades=grades)
    for (query, ids), row, of_pool in zip(pools, grades, distances, strict=True):
        ranked = rank_pool(of_pool, row, ids, ties)
        per_query[query] = graded(ranked.grades, THRESHOLDS[data.name], ranked.places)
        tied += ranked.tied
    metrics = {}
    for task, queries in ((data.name, tests), (f"{data.name}_dev", devs)):
        means = mean(per_query[query] for query in queries)
        metrics |= {f"{task}/{name}": value for name, value in means.items()}
    hits = [bool((row >= THRESHOLDS[data.name]).any()) for row in grades]
    counts = {
        **data.counts,
        "queries_without_their_text": len(data.candidates.keys() - rows.keys()),
        "queries_without_candidates_texts": sum(q in rows for q in data.candidates) - len(pools),
        "candidates_without_their_text": int((~known).sum()),
        "own_pool_left_out": len(data.corrections.own),
        "candidates_twice": data.corrections.twice,
    }
    settings = {
        "queries": len(tests),
        "queries_dev": len(devs),
        "queries_without_relevant": hits.count(False),
        "threshold": THRESHOLDS[data.name],
        "protocol": f"{data.name}: mean over the test queries; {data.name}_dev: over the dev ones",
        "ties": TIE_RULES[ties],
        "queries_tied": tied,
        "papers": len(rows),
        "papers_with_empty_text": sum(not has_text(p.title, p.abstract) for p in rows.values()),
        **counts,
    }
    notes = counted({note: settings[key] for key, note in NOTES.items()})
    titles = {query: rows[query].title or "" for query in per_query}
    told = notes + data.corrections.notes()
    return Result(metrics, per_query, settings, told, query_texts=titles, test_queries=tests)


def paper_file(name: str, folder: str | Path) -> Path:
    """The collection's own file of papers.

    Raises:
        UserError: there is none.
    """
    return find_file(
        Path(folder), [f"abstracts-{name}.jsonl"], "say where the texts are with --papers"
    )


def read_splits(path: Path) -> dict[str, list[str]]:
    """The queries of ``dev`` and ``test``; a collection may have no ``dev``.

    Raises:
        UserError: there is no such file, it has another form, or a query is in both.
    """
    content = read_json(path)
    splits: dict[str, list[str]] = {}
    for name in ("dev", "test"):
        queries = content.get(name, []) if isinstance(content, dict) else None
        if not isinstance(queries, list) or (name == "test" and not queries):
            raise UserError(f"{path}: expected {{'dev': [queries], 'test': [queries]}}.")
        splits[name] = list(dict.fromkeys(map(str, queries)))
    both = set(splits["dev"]) & set(splits["test"])
    if both:
        raise UserError(f"{path}: {len(both)} queries are in dev and in test ({min(both)}, ...).")
    return splits
