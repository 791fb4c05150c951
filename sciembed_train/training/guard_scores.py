"""Each query's score on what a run was for, and on what it must not lose, for `verdict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sciembed_train.evaluation.evaluate_settings import BASELINES, EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.output_file import write_json
from sciembed_train.training.run_metadata import weights_sha256
from sciembed_train.training.verdict import Scores, dev_and_test

TARGET = "citations"
# Guards of the corpus itself; any other guard is the folder of a search (`retrieval`).
OF_CORPUS = ("title_abstract", "abstract_halves")
# What each benchmark's queries are scored by.
METRICS = {TARGET: "map", **dict.fromkeys(OF_CORPUS, "mrr"), "retrieval": "map_grade1"}
# Candidates of the corpus' guards where a step or a share of weights is chosen.
DEV_CANDIDATES = 2000

QueryScores = dict[str, dict[str, float]]  # of target and guards by name: query to score


def query_scores(
    model: str | Path,
    corpus: Path,
    split: Literal["dev", "test"],
    guards: Sequence[str] = OF_CORPUS,
    embed: EmbedSettings = EmbedSettings(),  # noqa: B008 - frozen
    seed: int = 0,
    cache: Path | None = None,
    quiet: bool = True,
) -> QueryScores:
    """Scores of a model on the target and the guards, on the queries of a split.

    The target and the corpus' own guards ask with the papers that the corpus holds out as
    ``split``; of a guard that is a folder ``split`` has one half of the queries, by their ids.

    Args:
        model: a model folder, or the baselines ``bm25`` and ``random``.
        corpus: folder of a corpus with citations.
        split: ``dev`` chooses step and share of weights, ``test`` gives the verdict.
        guards: names of `OF_CORPUS`, and folders of papers, queries and qrels.
        embed: how the model embeds.
        seed: of the halves of a folder's queries.
        cache: a JSON file that keeps the scores; they are read from it where model, data and
            settings are the same.
        quiet: show no progress.

    Raises:
        UserError: the model or the data of a benchmark cannot be used.
    """
    identity = {
        "model": str(model),
        "weights": None if str(model) in BASELINES else weights_sha256(str(model)),
        "corpus": str(corpus),
        "split": split,
        "guards": list(guards),
        "embed": vars(embed),
        "seed": seed,
    }
    if cache is not None and (known := _read(cache, identity)) is not None:
        return known
    scores = {}
    for name in (TARGET, *guards):
        own = name in (TARGET, *OF_CORPUS)
        benchmark = name if own else "retrieval"
        small = name in OF_CORPUS and split == "dev"
        result = run_benchmark(
            EvaluateSettings(
                benchmark,
                corpus if own else name,
                str(model),
                split=split if own else "test",
                embed=embed,
                quiet=quiet,
                sample=DEV_CANDIDATES if small else EvaluateSettings.sample,
            )
        )
        queries = list(result.per_query)
        if not own:
            queries = dev_and_test(queries, seed)[split == "test"]
        scores[name] = {query: result.per_query[query][METRICS[benchmark]] for query in queries}
    if cache is not None:
        write_json(cache, {"of": identity, "scores": scores})
    return scores


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


def _read(cache: Path, identity: Mapping[str, Any]) -> QueryScores | None:
    """The scores of a cache file of the same model, data and settings; else None."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        return content["scores"] if content["of"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
