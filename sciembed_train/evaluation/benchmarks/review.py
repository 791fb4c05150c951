"""Systematic reviews: an included paper ranks all other candidates of its review.

A folder holds ``papers`` and ``labels`` with the columns ``paper_id`` and ``included``, 1 or 0.
Each included paper asks in turn, as a reviewer does who knows one relevant paper; relevant are the
other included ones. The metrics of screening are work saved over sampling at 95 % recall (Cohen et
al. 2006), ``wss95``, and the recall in the first tenth of the candidates, ``recall_pct10``.
"""

from __future__ import annotations

from pathlib import Path

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.by_example import (
    ALL,
    Asking,
    Draw,
    cell_id,
    cell_number,
    read_rows,
    score_asking,
)
from sciembed_train.evaluation.benchmarks.result import (
    NoQueriesError,
    Result,
    described,
)
from sciembed_train.evaluation.benchmarks.retrieval import find
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import Ranked, TieRule, judged
from sciembed_train.evaluation.systems import System
from sciembed_train.inference.paper_file import PaperFile

RECALL = 0.95
PERCENT = 10


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    asking = read_review(Path(settings.data), settings.papers, Draw.of(settings))
    system = systems.system(settings)
    return described(system, evaluate(asking, system, settings.ties))


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is one of this benchmark."""
    try:
        labels = find(folder, "labels")
        return "included" in next(iter(read_rows(labels, "labels")))[1]
    except (UserError, StopIteration):
        return False


def read_review(folder: Path, papers: str | Path | None = None, draw: Draw = ALL) -> Asking:
    """The included papers of a review, each with the others.

    Raises:
        UserError: a file is missing or malformed.
        NoQueriesError: fewer than two papers are included.
    """
    path = find(folder, "labels")
    labels: dict[str, int] = {}
    for place, row in read_rows(path, "labels"):
        paper, included = cell_id(place, row, "paper_id"), cell_number(place, row, "included")
        if included > 1:
            raise UserError(f"{place}: `included` is {included}; expected 1 or 0.")
        if labels.setdefault(paper, included) != included:
            raise UserError(f"{place}: paper {paper} was given before, with another label.")
    chosen = [paper for paper, included in labels.items() if included]
    grades = {paper: dict.fromkeys((p for p in chosen if p != paper), 1) for paper in chosen}
    collection = PaperFile(find(folder, "papers") if papers is None else papers)
    asking = Asking.of(collection, grades, 1, draw)
    if not asking.grades:
        raise NoQueriesError(f"{path}: fewer than two papers of the collection are included.")
    return asking


def evaluate(asking: Asking, system: System, ties: TieRule = "expected") -> Result:
    """Scores of a system: MAP, work saved, recall in the first tenth.

    ``ties`` says how papers at equal distances are ordered.
    """
    pool = len(asking.candidates) - 1
    protocol = {"protocol": "each included paper ranks all others"}
    return score_asking(
        asking, system, "review", lambda ranked: screening(ranked, pool), ties, protocol
    )


def screening(ranked: Ranked, pool: int) -> dict[str, float]:
    """The metrics of one query whose pool is all other candidates of a review."""
    hits, places = ranked.grades >= 1, ranked.places
    scores = judged(ranked)
    return {
        "map": scores["map"],
        "mrr": scores["mrr"],
        f"wss{RECALL * 100:.0f}": float(metrics.work_saved(hits, pool, RECALL, places)),
        f"recall_pct{PERCENT}": float(
            metrics.recall_at(hits, metrics.percent_cut(pool, PERCENT), places=places)
        ),
    }
