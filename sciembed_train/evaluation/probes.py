"""Linear probes: linear classifiers and regressors on frozen embeddings.

SciRepEval, Singh et al. (2023), as in its evaluation code: linear support vector machines on the
unchanged embeddings, the cost chosen by cross-validation on the training papers. That code uses
sklearn-contrib-lightning where it is installed. Here it is always scikit-learn: liblinear's
coordinate descent on the dual with an intercept, so that the same embeddings give the same numbers
on every machine.

Shapes: ``N`` training papers, ``M`` papers to predict, ``D`` width, ``C`` labels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from sciembed_train.errors import UserError

SEED = 42
FOLDS = 3
CLASS_COSTS = tuple(10.0**e for e in range(-2, 3))
NUMBER_COSTS = tuple(10.0**e for e in range(-4, 3))
DEFAULT_COST = 1.0
MULTI_LABEL_ITERATIONS = 10_000
# Size of the training matrix from which on the grid runs in several processes; the results are the
# same in one.
LARGE = 2_000_000

# The solver of the published runs; scikit-learn now takes the primal one by default, many times
# slower with more papers than dimensions.
_DUAL: Any = True  # scikit-learn annotates it as text alone


@dataclass
class ProbeResult:
    """Predictions of probes for the test papers.

    Args:
        predictions: class numbers ``[M]``, numbers ``[M]``, or 0 and 1 ``[M, C]``.
        costs: the cost of the machine, or of each label's.
        untuned: machines with the default cost, for lack of papers for a grid.
        constant: labels that all or none of the training papers have: predicted the same for all.
        unfinished: machines that stopped at the iteration limit before they converged.
    """

    predictions: Any
    costs: list[float] = field(default_factory=list)
    untuned: int = 0
    constant: int = 0
    unfinished: int = 0


def classification_probe(
    x: Float32[np.ndarray, "N D"],
    y: Int64[np.ndarray, " N"],
    test_vectors: Float32[np.ndarray, "M D"],
    grid: bool = True,
) -> ProbeResult:
    """The class of each test paper, by a linear SVM with the squared hinge.

    With ``grid`` the cost is chosen from `CLASS_COSTS` by the accuracy in `FOLDS` stratified folds,
    not shuffled; otherwise, as in few-shot runs, it is `DEFAULT_COST`.
    """
    from sklearn.svm import LinearSVC

    result = ProbeResult(np.empty(len(test_vectors), dtype=np.int64))
    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2:
        result.predictions[:] = y[0]
        result.constant = 1
        return result
    machine = LinearSVC(loss="squared_hinge", dual=_DUAL, random_state=SEED)
    # With as many members in two classes, no fold is left with a single class to learn from.
    folds = min(FOLDS, int(np.sort(counts)[-2])) if grid else None
    trained = _train(machine, CLASS_COSTS, folds, x, y, result)
    result.predictions[:] = trained.predict(test_vectors)
    return result


def multi_label_probe(
    x: Float32[np.ndarray, "N D"],
    y: Int64[np.ndarray, "N C"],
    test_vectors: Float32[np.ndarray, "M D"],
) -> ProbeResult:
    """The labels of each test paper: one against the rest, linear SVMs with the hinge.

    Each label has its own cost, chosen as in `classification_probe`, in few-shot runs too.
    """
    from sklearn.svm import LinearSVC

    result = ProbeResult(np.zeros((len(test_vectors), y.shape[1]), dtype=np.int64))
    for label, column in enumerate(y.T):
        rarer = int(min(column.sum(), len(column) - column.sum()))
        if not rarer:
            result.predictions[:, label] = column[0]
            result.constant += 1
            continue
        machine = LinearSVC(
            loss="hinge", dual=_DUAL, max_iter=MULTI_LABEL_ITERATIONS, random_state=SEED
        )
        trained = _train(machine, CLASS_COSTS, min(FOLDS, rarer), x, column, result)
        result.predictions[:, label] = trained.predict(test_vectors)
    return result


def regression_probe(
    x: Float32[np.ndarray, "N D"],
    y: Float[np.ndarray, " N"],
    test_vectors: Float32[np.ndarray, "M D"],
) -> ProbeResult:
    """A number for each test paper, by linear support vector regression.

    The cost is chosen from `NUMBER_COSTS` by R2 in `FOLDS` folds, not shuffled.
    """
    from sklearn.svm import LinearSVR

    result = ProbeResult(np.empty(len(test_vectors), dtype=np.float64))
    machine = LinearSVR(dual=_DUAL, random_state=SEED)
    folds = FOLDS if len(y) >= 2 * FOLDS else 0  # R2 needs two papers in each fold
    result.predictions[:] = _train(machine, NUMBER_COSTS, folds, x, y, result).predict(test_vectors)
    return result


def class_samples(
    y: Int64[np.ndarray, " N"], size: int, runs: int
) -> list[Int64[np.ndarray, " _"]]:
    """Training papers of few-shot runs: the folds, not shuffled, of a stratified split.

    There are ``N / size`` folds, rounded up, of about ``size`` papers, each the training set of a
    run; the first ``runs`` of them are taken. A class with fewer papers is absent from some.

    Raises:
        UserError: there is one fold alone, or more folds than any class has papers.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = ceil(len(y) / size)
    largest_class = int(np.bincount(y).max())
    if not 2 <= folds <= largest_class:
        raise UserError(
            f"sample_size {size} makes {folds} folds of {len(y)} training papers; there must be 2 "
            f"or more, and no more than the largest class has papers ({largest_class})."
        )
    with _quiet():
        return [fold for _, fold in islice(StratifiedKFold(folds).split(y, y), runs)]


def label_samples(
    y: Int64[np.ndarray, "N C"], size: int, runs: int
) -> list[Int64[np.ndarray, " _"]]:
    """Training papers of few-shot runs with several labels: ``size`` papers of each label.

    Drawn without replacement, run ``k`` with seed 42 + k, one label after another; of a label
    with fewer papers all are taken.
    """
    members = [np.flatnonzero(column) for column in y.T]
    samples = []
    for run in range(runs):
        # The published draws come from numpy's older generator; the new one draws differently.
        draw = np.random.RandomState(SEED + run)
        drawn = [draw.choice(m, min(size, len(m)), replace=False) for m in members if len(m)]
        samples.append(np.unique(np.concatenate(drawn)))
    return samples


def check_installed() -> None:
    """Check that scikit-learn is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError(
            "Tasks of classification and regression need scikit-learn: "
            "pip install 'sciembed_train[probes]'."
        ) from error


def _train(
    machine: Any, costs: tuple[float, ...], folds: int | None, x: Any, y: Any, result: ProbeResult
) -> Any:
    """The machine trained on all training papers, at the best cost or, without folds, the default.

    ``folds`` is None where the cost is not chosen, and below 2 where it cannot be.
    """
    from sklearn.model_selection import GridSearchCV

    x = x.astype(np.float64)  # once, not in every fit
    with _quiet():
        if folds is not None and folds >= 2:
            jobs = _cores() if x.size >= LARGE else 1
            grid = GridSearchCV(machine, {"C": list(costs)}, cv=folds, n_jobs=jobs)
            trained = grid.fit(x, y).best_estimator_
        else:
            result.untuned += folds is not None
            trained = machine.set_params(C=DEFAULT_COST).fit(x, y)
    result.costs.append(float(trained.C))
    result.unfinished += int(np.max(trained.n_iter_) >= trained.max_iter)
    return trained


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings on what `ProbeResult` counts and `class_samples` checks."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        yield


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
