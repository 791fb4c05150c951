"""Each query's score on what a run was for, and on what it must not lose, for `verdict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

import numpy as np

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks import citations, same_paper
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.guard_folders import GuardFolder, open_guard
from sciembed_train.evaluation.systems import System
from sciembed_train.training.verdict import Scores

TARGET = "citations"
# Guards of the corpus itself; any other guard is an evaluation folder (`evaluation.guard_folders`).
OF_CORPUS = ("title_abstract", "abstract_halves")
# What the queries of the corpus are scored by.
METRICS = {TARGET: "map", **dict.fromkeys(OF_CORPUS, "mrr")}
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
        metrics: what the queries of target and guards are scored by, by name.
    """

    scores: QueryScores = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    nearest: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """The mean of target and guards, by name."""
        return {n: float(np.mean(list(queries.values()))) for n, queries in self.scores.items()}


def query_scores(
    system: System,
    corpus: Corpus,
    split: Split,
    guards: Mapping[str, GuardFolder] = MappingProxyType({}),
    seed: int = 0,
) -> ScoredQueries:
    """Scores on the target and the guards, of the queries of a split.

    The target and the corpus' own guards ask with the papers that the corpus holds out as
    ``split``; of a guard that is a folder ``split`` has one half of the queries, by their ids. On
    ``dev`` there are at most `DEV_CANDIDATES` candidates, fewer of guards.

    Args:
        system: model or baseline.
        corpus: with citations.
        split: ``dev`` chooses step and share of weights, ``test`` gives the verdict.
        guards: more guards by their names, as `open_guards` gives them.
        seed: of samples and of the halves of a folder's queries.

    Raises:
        NoQueriesError: the target has no query.
        UserError: the data of a folder cannot be used.
    """
    found = ScoredQueries()
    for name, metric, score in _benchmarks(system, corpus, split, guards, seed, found.nearest):
        try:
            found.scores[name] = score()
        except NoQueriesError as error:
            if name == TARGET:
                raise
            found.notes.append(f"The guard {name} is left out on {split} queries: {error}")
            continue
        found.metrics[name] = metric
    return found


def _benchmarks(
    system: System,
    corpus: Corpus,
    split: Split,
    guards: Mapping[str, GuardFolder],
    seed: int,
    nearest: dict[str, list[str]],
) -> Iterator[tuple[str, str, Callable[[], dict[str, float]]]]:
    """Name and metric of the target and of each guard, and what scores its queries.

    The nearest papers of some of the target's test queries are put into ``nearest``.
    """
    dev = split == "dev"

    def target() -> dict[str, float]:
        sample, shown = (DEV_CANDIDATES, 0) if dev else (0, SHOWN)
        result = citations.evaluate(corpus, system, split, sample, seed, shown)
        nearest.update(result.nearest)
        return result.by_query(METRICS[TARGET])

    yield TARGET, METRICS[TARGET], target
    for task in OF_CORPUS:
        request = EvaluateSettings(task, corpus.folder, "random", split=split)
        most = DEV_GUARD_CANDIDATES if dev else TEST_CANDIDATES

        def own(task: str = task, request: EvaluateSettings = request, most: int = most):
            papers, held_out = same_paper.read_papers(request)
            kind = cast(same_paper.Task, task)
            result = same_paper.evaluate(papers, system, kind, held_out, most, seed)
            return result.by_query(METRICS[task])

        yield task, METRICS[task], own
    for name, guard in guards.items():
        yield (
            name,
            guard.metric,
            partial(guard.score, system, split, DEV_GUARD_CANDIDATES if dev else 0, seed),
        )


def open_guards(folders: Sequence[str]) -> dict[str, GuardFolder]:
    """The guards of ``guards`` by their names.

    Raises:
        UserError: one cannot be used.
    """
    try:
        return {name: open_guard(place) for name, place in guard_names(folders).items()}
    except UserError as error:
        raise UserError(f"guards: {error}") from error


def guard_names(folders: Sequence[str]) -> dict[str, str]:
    """The folders and files of guards by their names, without the path above.

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
