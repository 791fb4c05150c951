"""Each query's score on what a run was for, and on what it must not lose, for `verdict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.evaluation.benchmarks import citations, retrieval, same_paper
from sciembed_train.evaluation.benchmarks.result import NoQueriesError, Result
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.systems import System
from sciembed_train.training.verdict import Scores, dev_and_test

TARGET = "citations"
# Guards of the corpus itself; any other guard is the folder of a search (`retrieval`).
OF_CORPUS = ("title_abstract", "abstract_halves")
# What each benchmark's queries are scored by.
METRICS = {TARGET: "map", **dict.fromkeys(OF_CORPUS, "mrr"), "retrieval": "map_grade1"}
# Most candidates of the target and of a guard where a share of weights is chosen, and of a guard of
# the corpus where the verdict is given. Scoring takes about as long as training a small corpus.
DEV_CANDIDATES, DEV_GUARD_CANDIDATES, TEST_CANDIDATES = 2000, 1000, 2000
# Queries whose nearest papers are kept, for people to look at.
SHOWN = 10

Split = Literal["dev", "test"]
QueryScores = dict[str, dict[str, float]]  # of target and guards by name: query to score


@dataclass
class ScoredQueries:
    """What a system scores on the queries of a split.

    Args:
        scores: of target and guards by name, of each query.
        notes: guards that have no query here and so are left out.
        nearest: ids of the papers nearest to some of the target's queries, of ``test``.
    """

    scores: QueryScores = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    nearest: dict[str, list[str]] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """The mean of target and guards, by name."""
        return {n: float(np.mean(list(queries.values()))) for n, queries in self.scores.items()}


def query_scores(
    system: System, corpus: Corpus, split: Split, folders: Sequence[str] = (), seed: int = 0
) -> ScoredQueries:
    """Scores on the target and the guards, of the queries of a split.

    The target and the corpus' own guards ask with the papers that the corpus holds out as
    ``split``; of a guard that is a folder ``split`` has one half of the queries, by their ids. On
    ``dev`` there are at most `DEV_CANDIDATES` candidates, fewer of guards.

    Args:
        system: model or baseline.
        corpus: with citations.
        split: ``dev`` chooses step and share of weights, ``test`` gives the verdict.
        folders: more guards: folders of papers, queries and qrels.
        seed: of samples and of the halves of a folder's queries.

    Raises:
        NoQueriesError: the target has no query.
        UserError: the data of a folder cannot be used.
    """
    found = ScoredQueries()
    for name, score in _benchmarks(system, corpus, split, folders, seed):
        try:
            result = score()
        except NoQueriesError as error:
            if name == TARGET:
                raise
            found.notes.append(f"The guard {name} is left out on {split} queries: {error}")
            continue
        rows = result.per_query.items()
        found.scores[name] = {query: row[metric_of(name)] for query, row in rows}
        found.nearest |= result.nearest
    return found


def _benchmarks(
    system: System, corpus: Corpus, split: Split, folders: Sequence[str], seed: int
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The name of the target and of each guard, and what scores it."""
    dev = split == "dev"
    sample = DEV_CANDIDATES if dev else 0
    guard_sample = DEV_GUARD_CANDIDATES if dev else 0
    shown = 0 if dev else SHOWN
    yield TARGET, lambda: citations.evaluate(corpus, system, split, sample, seed, shown)
    for task in OF_CORPUS:
        request = EvaluateSettings(task, corpus.folder, "random", split=split)
        most = DEV_GUARD_CANDIDATES if dev else TEST_CANDIDATES

        def score(task: str = task, request: EvaluateSettings = request, most: int = most):
            papers, held_out = same_paper.read_papers(request)
            kind = cast(same_paper.Task, task)
            return same_paper.evaluate(papers, system, kind, held_out, most, seed)

        yield task, score

    def asked(query: str) -> bool:
        return bool(dev_and_test([query], seed)[split == "test"])

    for name, folder in guard_names(folders).items():
        yield (
            name,
            lambda folder=folder: retrieval.evaluate(
                folder, system, None, asked, guard_sample, seed
            ),
        )


def metric_of(name: str) -> str:
    """What the queries of the target or of a guard are scored by."""
    return METRICS.get(name, METRICS["retrieval"])


def guard_names(folders: Sequence[str]) -> dict[str, str]:
    """The folders of guards by their names: those of the folders, without the path above.

    A folder whose name is taken has the one above it in its name too.
    """
    names: dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        path = Path(folder).expanduser()
        parts = path.resolve().parts
        name, depth = parts[-1], 1
        while name in names or name in METRICS:
            depth += 1
            if depth > len(parts):
                break
            name = "/".join(parts[-depth:])
        names[name] = str(path)
    return names


def paired(before: QueryScores, after: QueryScores) -> tuple[Scores, Scores]:
    """Scores before and after as arrays over the same queries, in the order of their ids.

    Raises:
        ValueError: target, guards or queries differ.
    """
    for name in before.keys() | after.keys():
        if before.get(name, {}).keys() != after.get(name, {}).keys():
            raise ValueError(f"the queries of {name} are not the same before and after")
    orders = {name: sorted(queries) for name, queries in before.items()}
    one, two = (
        {name: np.array([table[name][q] for q in order]) for name, order in orders.items()}
        for table in (before, after)
    )
    return one, two


def check_disjoint(dev: Mapping[str, Mapping[str, float]], test: QueryScores) -> None:
    """See that no query that chooses step or alpha gives the verdict.

    Raises:
        RuntimeError: one does (a defect).
    """
    for name in test:
        if shared := sorted(dev.get(name, {}).keys() & test[name].keys()):
            raise RuntimeError(
                f"{len(shared)} queries of {name} are dev and test queries, such as {shared[0]}: "
                "the verdict would be on queries that chose the weights"
            )
