"""SciRepEval's metrics by the names that its task list gives them, and ours, which say the form.

Values are shares of 1 where SciRepEval prints them times 100.

Shapes: ``N`` papers or labelled places, ``J`` judged candidates of one query.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.ranking import Ranked

Score = Callable[[Any, Any], float]
RankedScore = Callable[[Ranked, NDArray[np.int64]], float]
AVERAGES = {"": "binary", "_macro": "macro", "_micro": "micro"}
CORRELATIONS = {"kendalltau": "kendall_tau_b", "pearsonr": "pearson_r"}


def class_metric(name: str, multi_label: bool) -> tuple[str, Score]:
    """Our name of a metric of classes, and a function of truth and found, ``[N]`` or ``[N, C]``.

    ``f1``, ``precision`` and ``recall`` are those of class 1 among 0 and 1; with ``_macro`` the
    mean over classes or labels, with ``_micro`` over all papers at once. ``accuracy`` of several
    labels asks for all of them to be right. What is 0 divided by 0 counts as 0.

    Raises:
        UserError: there is no such metric, or it is of one class and there are several labels.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    scores = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    if name == "accuracy":
        return name, lambda truth, found: float(accuracy_score(truth, found))
    base = name.partition("_")[0]
    average = AVERAGES.get(name.removeprefix(base))
    if base not in scores or average is None:
        raise UserError(
            f"{name!r} is no metric of a classification; known are accuracy, and f1, precision "
            "and recall, each alone or with _macro or _micro."
        )
    if multi_label and average == "binary":
        raise UserError(f"{name!r} is of one class; with several labels give {name}_macro.")
    score: Any = scores[base]
    return f"{base}_{average}", lambda truth, found: float(
        score(truth, found, average=average, zero_division=0)
    )


def number_metric(name: str) -> tuple[str, Score]:
    """Our name of a metric of numbers, and a function of truth and found, ``[N]``.

    A correlation with numbers that are all equal is 0: they tell nothing.

    Raises:
        UserError: there is no such metric.
    """
    from scipy import stats
    from sklearn.metrics import mean_squared_error, r2_score

    if name == "mse":
        return name, lambda truth, found: float(mean_squared_error(truth, found))
    if name == "r2":
        return name, lambda truth, found: float(r2_score(truth, found))
    if name not in CORRELATIONS:
        raise UserError(
            f"{name!r} is no metric of a regression; known are kendalltau, pearsonr, mse and r2."
        )

    def correlation(truth: Any, found: Any) -> float:
        if np.ptp(truth) == 0 or np.ptp(found) == 0:
            return 0.0
        return float(getattr(stats, name)(truth, found).statistic)

    return CORRELATIONS[name], correlation


def ranked_metric(name: str) -> tuple[str, RankedScore]:
    """Our name of a metric of rankings, and a function of a ranking and judged grades.

    The function takes the ranking and all grades of the query, ``[J]``, those of candidates that
    could not be ranked among them; as trec_eval, which pytrec_eval is, computes it: grade 1 or
    more is relevant, nDCG has linear gain and the log2 discount.

    Raises:
        UserError: there is no such metric.
    """
    wholes: dict[str, tuple[str, RankedScore]] = {
        "map": (
            "map_grade1",
            lambda r, j: float(metrics.average_precision(r.grades >= 1, _relevant(j), r.places)),
        ),
        "ndcg": ("ndcg_log2", lambda r, j: _ndcg(r, None, j)),
        "recip_rank": (
            "mrr_grade1",
            lambda r, _: float(metrics.reciprocal_rank(r.grades >= 1, r.places)),
        ),
        "Rprec": (
            "r_precision_grade1",
            lambda r, j: float(metrics.r_precision(r.grades >= 1, _relevant(j), r.places)),
        ),
    }
    if name in wholes:
        return wholes[name]
    cut = re.fullmatch(r"(P|recall|ndcg_cut)[_.]([1-9][0-9]*)", name)
    if cut is None:
        raise UserError(
            f"{name!r} is no metric of a ranking that is known here; known are {', '.join(wholes)},"
            " and P_5, recall_5, ndcg_cut_5 with any number for 5."
        )
    k = int(cut[2])
    return {
        "P": (
            f"precision{k}_grade1",
            lambda r, _: float(metrics.precision_at(r.grades >= 1, k, r.places)),
        ),
        "recall": (
            f"recall{k}_grade1",
            lambda r, j: float(metrics.recall_at(r.grades >= 1, k, _relevant(j), r.places)),
        ),
        "ndcg_cut": (f"ndcg{k}_log2", lambda r, j: _ndcg(r, k, j)),
    }[cut[1]]


def _ndcg(ranked: Ranked, k: int | None, judged: NDArray[np.int64]) -> float:
    return float(metrics.ndcg(ranked.grades, k, judged=judged, places=ranked.places))


def _relevant(grades: NDArray[np.int64]) -> int:
    return int((grades >= 1).sum())
