"""The benchmarks by name. Another one is a module with ``run``, and a line in `BENCHMARKS`.

Importing this module imports no benchmark, and so no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that `evaluate` knows.

    Args:
        module: where its ``run(settings, systems)`` is, which takes `EvaluateSettings` and
            `Systems` and returns the name of what was scored and a `Result`.
        summary: what it measures and what its folder holds, for the help.
        options: settings beside model, data and papers that it takes.
        metrics: keys of the scores that stand for it in the table of a suite.
        needs_vectors: it cannot score what has none, such as BM25.
        source: where its data come from.
    """

    module: str
    summary: str
    options: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()
    needs_vectors: bool = False
    source: str = ""

    def load(self) -> Callable[[Any, Any], Any]:
        """Its ``run``."""
        return importlib.import_module(self.module).run

    def is_in(self, folder: Path, name: str) -> bool:
        """Whether a folder has the files of this benchmark, by its ``is_here`` where it has one."""
        is_here = getattr(importlib.import_module(self.module), "is_here", None)
        return is_here is not None and is_here(folder, name)


_HERE = "sciembed_train.evaluation.benchmarks"
_ASPIRE = "github.com/allenai/aspire: abstracts-*.jsonl, test-pid2anns-*.json, *-evaluation_splits"
_SAME_PAPER = f"{_HERE}.same_paper"
_RANKS = frozenset({"ranking", "run_to"})
_OF_PAPERS = _RANKS | {"split", "sample"}
_YOURS = "any collection of yours"


def _judged(name: str, threshold: int) -> Benchmark:
    return Benchmark(
        f"{_HERE}.judged",
        "query by example over judged pools; the folder as Aspire released it",
        _RANKS,
        metrics=(f"{name}/map_grade{threshold}", f"{name}/ndcg_pct20_jk"),
        source=_ASPIRE,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "csfcube": Benchmark(
        f"{_HERE}.csfcube",
        "query by example and facet over judged pools; the CSFCube folder",
        _RANKS | {"facet"},
        ("aggregated/map_grade2", "aggregated/ndcg_pct20_jk"),
        source="github.com/iesl/CSFCube",
    ),
    "relish": _judged("relish", 2),
    **{
        name: _judged(name, 1)
        for name in ("treccovid", "scidcite", "scidcocite", "scidcoread", "scidcoview")
    },
    "retrieval": Benchmark(
        f"{_HERE}.retrieval",
        "searches over a collection; a folder of papers, queries and qrels",
        _RANKS | {"sample", "query_prompt"},
        metrics=("retrieval/map_grade1", "retrieval/ndcg10_log2"),
        source="any test collection in TREC's form, such as CACM or Cranfield",
    ),
    "citations": Benchmark(
        f"{_HERE}.citations",
        "held-out query papers against all papers; a corpus folder, or papers and citations",
        _RANKS | {"split", "queries", "sample"},
        ("citations/map",),
        source=_YOURS,
    ),
    "cocitations": Benchmark(
        f"{_HERE}.cocitations",
        "what is cited together with a paper; a folder of papers and cocitations",
        _RANKS | {"queries", "sample"},
        ("cocitations/map_grade2",),
        source="any collection with counts of co-citations, such as CISI",
    ),
    "review": Benchmark(
        f"{_HERE}.review",
        "screening for a systematic review; a folder of papers and labels (included: 1 or 0)",
        _RANKS | {"queries", "sample"},
        ("review/wss95", "review/recall_pct10"),
        source="github.com/asreview/systematic-review-datasets",
    ),
    "labels": Benchmark(
        f"{_HERE}.labels",
        "neighbours, probe and clusters by label; a folder of papers and labels, or papers with "
        "a field of them",
        frozenset({"sample"}),
        ("labels/knn10_accuracy", "labels/probe_accuracy", "labels/v_measure"),
        source="any papers with a label each, such as arXiv's categories",
    ),
    "title_abstract": Benchmark(
        _SAME_PAPER,
        "the abstract of a title; a corpus folder or a file of papers",
        _OF_PAPERS,
        ("title_abstract/mrr",),
        source=_YOURS,
    ),
    "abstract_halves": Benchmark(
        _SAME_PAPER,
        "the other half of an abstract; a corpus or a file of papers",
        _OF_PAPERS,
        ("abstract_halves/mrr",),
        source=_YOURS,
    ),
    "scirepeval": Benchmark(
        f"{_HERE}.scirepeval.scirepeval",
        "tasks by format, as SciRepEval; the folder of scirepeval_tasks.jsonl",
        frozenset({"tasks", "query_prompt"}),
        ("average/all_tasks",),
        needs_vectors=True,
        source="github.com/allenai/scirepeval, by its script",
    ),
    "scidocs": Benchmark(
        f"{_HERE}.scidocs",
        "classes, co-views, co-reads, citations and co-citations; the folder of SciDocs",
        frozenset({"split"}),
        ("average/map_grade1", "average/ndcg_log2", "average/f1_macro"),
        source="github.com/allenai/scidocs",
    ),
    "mdcr": Benchmark(
        f"{_HERE}.mdcr",
        "cited papers among candidates, in 19 fields; the folder of MDCR's files",
        frozenset({"split"}),
        ("average/map_grade1", "average/recall5_grade1"),
        source="github.com/zoranmedic/mdcr",
    ),
}
