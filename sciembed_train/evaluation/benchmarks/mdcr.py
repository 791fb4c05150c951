"""MDCR, Medić and Šnajder (2022): which of a paper's candidates does it cite, in 19 fields?

A folder holds ``mdcr_test.json``, ``{field: {query: {list: [papers]}}}`` with the lists `LISTS`,
and ``mdcr_test_data.jsonl``, the papers; ``mdcr_val...`` with ``--split dev``. Cited papers are in
``true``; a candidate that is in another list too is one all the same. MAP, nDCG and recall at 5 are
the means over a field's queries, the average is over fields, however many queries each has.
``original_<metric>`` is what the original's program gives (`trec_pools`); in its average it rounds
each field's mean in percent to 4 decimals, and then the average.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.pools import find_file, pool_distances, read_json
from sciembed_train.evaluation.benchmarks.result import Result, described
from sciembed_train.evaluation.benchmarks.trec_pools import (
    PoolDistances,
    TrecPool,
    papers_in,
    score_pools,
)
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import TieRule
from sciembed_train.evaluation.systems import System
from sciembed_train.inference.paper_file import PaperFile

LISTS = ("bm25", "graph", "most_cited", "random", "scincl", "specter", "true")
METRICS = ("map", "ndcg", "recall_5")
SPLITS = {"test": "test", "dev": "val"}  # to the names of the files
FIELDS = 19
DECIMALS = 4  # of percents, in the original's average
FORM = f"expected {{field: {{query: {{{', '.join(LISTS)}: [papers]}}}}}}"


@dataclass(frozen=True)
class Mdcr:
    """The judgements of a split.

    Args:
        pools: of all fields.
        cited_twice: candidates of ``true`` that are in another list of their query too.
    """

    pools: list[TrecPool]
    cited_twice: int

    @classmethod
    def open(cls, folder: str | Path, split: Literal["test", "dev"] = "test") -> Mdcr:
        """Read the judgements of a folder.

        Raises:
            UserError: there is no such file, or it has another form.
        """
        path = Path(folder) / f"mdcr_{SPLITS[split]}.json"
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise UserError(f"{path}: {FORM}.")
        pools: list[TrecPool] = []
        cited_twice = 0
        for group, queries in content.items():
            if not isinstance(queries, dict):
                raise UserError(f"{path}: field {group!r}: {FORM}.")
            for query, lists in queries.items():
                of_list = _read_lists(f"{path}: field {group!r}, query {query}", lists)
                cited = of_list.pop("true")
                others = {paper for papers in of_list.values() for paper in papers}
                cited_twice += len(cited & others)
                grades = dict.fromkeys(sorted(cited | others), 0) | dict.fromkeys(cited, 1)
                pools.append(TrecPool(group, query, grades))
        if not pools:
            raise UserError(f"{path}: holds no query; {FORM}.")
        return cls(pools, cited_twice)


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    data = Mdcr.open(settings.data, settings.split)
    papers = PaperFile(settings.papers or paper_file(settings.data, settings.split))
    system = systems.system(settings)
    result = evaluate(data, system, papers, settings.ties)
    result.settings["split"] = settings.split
    return described(system, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder has the test judgements of this benchmark."""
    return (folder / "mdcr_test.json").is_file()


def evaluate(
    data: Mdcr, system: System, papers: Iterable[Paper], ties: TieRule = "expected"
) -> Result:
    """Scores of a system that ranks each query's pool; ``papers`` is read once.

    ``ties`` says how candidates at equal distances are ordered.

    Raises:
        UserError: no query is among the papers, with a candidate.
    """
    needed = papers_in(data.pools)
    rows = {paper.paper_id: paper for paper in papers if paper.paper_id in needed}

    def distances(
        used: Mapping[str, Paper], asked: Sequence[tuple[str, Sequence[str]]]
    ) -> PoolDistances:
        for row in pool_distances(system, used, asked):
            yield row, row

    result = score_pools(data.pools, rows, distances, METRICS, ties)
    fields = list(result.settings["queries_by_group"])
    for name in (f"original_{metric}" for metric in METRICS):
        percents = np.round([100 * result.metrics[f"{field}/{name}"] for field in fields], DECIMALS)
        result.metrics[f"average/{name}"] = round(float(percents.mean()), DECIMALS) / 100
    result.settings |= {
        "fields": len(fields),
        "candidates_cited_and_in_another_list": data.cited_twice,
        "protocol": "mean over a field's queries, average over fields; original_: ties as "
        f"trec_eval, fields rounded to {DECIMALS} decimals of a percent in the average",
    }
    if len(fields) != FIELDS:
        result.notes.append(
            f"The average is over {len(fields)} fields; the original's is over {FIELDS}."
        )
    return result


def paper_file(folder: str | Path, split: Literal["test", "dev"] = "test") -> Path:
    """The split's own file of papers.

    Raises:
        UserError: there is none.
    """
    name = f"mdcr_{SPLITS[split]}_data.jsonl"
    return find_file(Path(folder), [name], "say where the texts are with --papers")


def _read_lists(place: str, lists: Any) -> dict[str, set[str]]:
    """The candidates of a query, by list.

    Raises:
        UserError: there are not just `LISTS`, or one is not a list of ids.
    """
    if not isinstance(lists, dict):
        raise UserError(f"{place}: {FORM}.")
    if lists.keys() != set(LISTS):
        odd = ", ".join(sorted(lists.keys() ^ set(LISTS)))
        raise UserError(f"{place}: {FORM}; {odd} is missing, or is none of them.")
    for name, papers in lists.items():
        if not isinstance(papers, list) or any(
            isinstance(paper, bool) or not isinstance(paper, str | int) for paper in papers
        ):
            raise UserError(f"{place}, {name!r}: expected a list of ids.")
    return {name: set(map(str, papers)) for name, papers in lists.items()}
