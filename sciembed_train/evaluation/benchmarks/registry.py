"""The benchmarks by name. Another one is a module with ``run``, and a line in `BENCHMARKS`.

Importing this module imports no benchmark, and so no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that `evaluate` knows.

    Args:
        module: where its ``run(settings, systems)`` is, which takes `EvaluateSettings` and
            `Systems` and returns the name of what was scored and a `Result`.
        summary: what it measures and what its folder holds, for the help.
        options: settings beside model, data and papers that it takes.
    """

    module: str
    summary: str
    options: frozenset[str] = frozenset()

    def load(self) -> Callable[[Any, Any], Any]:
        """Its ``run``."""
        return importlib.import_module(self.module).run


_HERE = "sciembed_train.evaluation.benchmarks"
_JUDGED = Benchmark(
    f"{_HERE}.judged", "query by example over judged pools; the folder as Aspire released it"
)
_SAME_PAPER = f"{_HERE}.same_paper"
_OF_PAPERS = frozenset({"split", "sample"})
BENCHMARKS: dict[str, Benchmark] = {
    "csfcube": Benchmark(
        f"{_HERE}.csfcube",
        "query by example and facet over judged pools; the CSFCube folder",
        frozenset({"ranking", "facet"}),
    ),
    "relish": _JUDGED,
    "treccovid": _JUDGED,
    "scidcite": _JUDGED,
    "scidcocite": _JUDGED,
    "scidcoread": _JUDGED,
    "scidcoview": _JUDGED,
    "retrieval": Benchmark(
        f"{_HERE}.retrieval", "searches over a collection; a folder of papers, queries and qrels"
    ),
    "citations": Benchmark(
        f"{_HERE}.citations",
        "held-out query papers against all papers; a corpus folder, or papers and citations",
        frozenset({"split", "queries"}),
    ),
    "cocitations": Benchmark(
        f"{_HERE}.cocitations",
        "what is cited together with a paper; a folder of papers and cocitations",
        frozenset({"queries"}),
    ),
    "review": Benchmark(
        f"{_HERE}.review",
        "screening for a systematic review; a folder of papers and labels (included: 1 or 0)",
        frozenset({"queries"}),
    ),
    "labels": Benchmark(
        f"{_HERE}.labels",
        "neighbours, probe and clusters by label; a folder of papers and labels, or papers with "
        "a field of them",
        frozenset({"sample"}),
    ),
    "title_abstract": Benchmark(
        _SAME_PAPER, "the abstract of a title; a corpus folder or a file of papers", _OF_PAPERS
    ),
    "abstract_halves": Benchmark(
        _SAME_PAPER, "the other half of an abstract; a corpus or a file of papers", _OF_PAPERS
    ),
    "scirepeval": Benchmark(
        f"{_HERE}.scirepeval.scirepeval",
        "tasks by format, as SciRepEval; the folder of scirepeval_tasks.jsonl",
        frozenset({"tasks"}),
    ),
}
