"""Which papers are cited together with a paper? Every paper with a co-cited one ranks all others.

A folder holds ``papers`` and ``cocitations`` (or ``cocitation``) with the columns ``paper_a``,
``paper_b`` and ``count``: how many papers cite both. Relevant in the binary metrics is what is
cited together twice or more; nDCG has the counts as its gain.
"""

from __future__ import annotations

from pathlib import Path

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.by_example import (
    ALL,
    Asking,
    Draw,
    cell_id,
    cell_number,
    read_rows,
)
from sciembed_train.evaluation.benchmarks.result import (
    TIED,
    NoQueriesError,
    Result,
    counted,
    described,
    mean,
)
from sciembed_train.evaluation.benchmarks.retrieval import find
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import TIE_RULES, TieRule, judged
from sciembed_train.evaluation.systems import System
from sciembed_train.inference.paper_file import PaperFile

THRESHOLD = 2
NAMES = ("cocitations", "cocitation")


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    asking = read_cocited(Path(settings.data), settings.papers, Draw.of(settings))
    system = systems.system(settings)
    return described(system, evaluate(asking, system, settings.ties))


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is one of this benchmark."""
    try:
        _pairs_file(folder)
        find(folder, "papers")
    except UserError:
        return False
    return True


def read_cocited(folder: Path, papers: str | Path | None = None, draw: Draw = ALL) -> Asking:
    """The papers that are cited together with others.

    Raises:
        UserError: a file is missing or malformed.
        NoQueriesError: no two papers of the collection are cited together twice.
    """
    path = _pairs_file(folder)
    grades: dict[str, dict[str, int]] = {}
    for place, row in read_rows(path, "pairs"):
        pair = cell_id(place, row, "paper_a"), cell_id(place, row, "paper_b")
        count = cell_number(place, row, "count")
        for one, other in (pair, pair[::-1]):
            if grades.setdefault(one, {}).setdefault(other, count) != count:
                raise UserError(f"{place}: {one} and {other} were given before, with other counts.")
    collection = PaperFile(find(folder, "papers") if papers is None else papers)
    asking = Asking.of(collection, grades, THRESHOLD, draw)
    if not asking.grades:
        raise NoQueriesError(f"{path}: no two papers of the collection are cited together twice.")
    return asking


def evaluate(asking: Asking, system: System, ties: TieRule = "expected") -> Result:
    """Scores of a system: MAP, MRR, recall at 10 of pairs cited twice, nDCG by counts.

    ``ties`` says how papers at equal distances are ordered.
    """
    per_query, tied = {}, 0
    for query, ranked in asking.rank(system, ties):
        per_query[query] = judged(ranked, THRESHOLD)
        tied += ranked.tied
    note = "{} papers have no text; they are ranked all the same."
    return Result(
        {f"cocitations/{name}": value for name, value in mean(per_query.values()).items()},
        per_query,
        {
            "queries": len(per_query),
            "papers": len(asking.candidates),
            **asking.left_out,
            "threshold": THRESHOLD,
            "ties": TIE_RULES[ties],
            "queries_tied": tied,
        },
        counted({note: asking.papers.without_text, TIED: tied}),
        query_texts=asking.titles(),
    )


def _pairs_file(folder: Path) -> Path:
    try:
        return find(folder, NAMES[0])
    except UserError:
        return find(folder, NAMES[1])
