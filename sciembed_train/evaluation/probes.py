"""Linear probes: what a straight cut through frozen embeddings can tell of papers.

SciRepEval, Singh et al. (2023), as its evaluation code has it: linear support vector machines on
the embeddings as they are, the cost found by cross-validation on the training papers. The code
takes its machines from sklearn-contrib-lightning where that is installed. Here they are always
scikit-learn's, which is to say liblinear's coordinate descent on the dual with an intercept, so
that the same embeddings give the same numbers everywhere.

Shapes: ``N`` training papers, ``M`` papers to be told, ``D`` width, ``C`` labels.
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
# Numbers in the training matrix from which on the grid is worth its own processes; the fits are
# the same in one.
LARGE = 2_000_000

# The solver that the published runs had; scikit-learn now takes the primal one, many times slower
# here, where there are more papers than numbers in an embedding.
_DUAL: Any = True  # its type is given as text alone


@dataclass
class ProbeScore:
    """What probes tell of new papers.

    Args:
        found: class numbers ``[M]``, numbers ``[M]``, or 0 and 1 ``[M, C]``.
        costs: the cost of each machine, one or one a label.
        untuned: machines that took the default cost: too few papers for a grid.
        constant: labels that all or none of the training papers have: told alike of every paper.
        unfinished: machines that stopped at the most iterations before they had converged.
    """

    found: Any
    costs: list[float] = field(default_factory=list)
    untuned: int = 0
    constant: int = 0
    unfinished: int = 0


def classification_probe(
    x: Float32[np.ndarray, "N D"],
    y: Int64[np.ndarray, " N"],
    new: Float32[np.ndarray, "M D"],
    grid: bool = True,
) -> ProbeScore:
    """The class of each new paper, by a linear SVM with the squared hinge.

    Args:
        x: embeddings of the training papers.
        y: their classes.
        new: embeddings of the papers to be told.
        grid: choose the cost from `CLASS_COSTS` by the accuracy in `FOLDS` stratified folds, not
            shuffled; otherwise it is `DEFAULT_COST`, as in few-shot runs.
    """
    from sklearn.svm import LinearSVC

    told = ProbeScore(np.empty(len(new), dtype=np.int64))
    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2:
        told.found[:] = y[0]
        told.constant = 1
        return told
    machine = LinearSVC(loss="squared_hinge", dual=_DUAL, random_state=SEED)
    # With as many members in two classes, no fold is left with a single class to learn from.
    folds = min(FOLDS, int(np.sort(counts)[-2])) if grid else None
    fitted = _fit(machine, CLASS_COSTS, folds, x, y, told)
    told.found[:] = fitted.predict(new)
    return told


def multi_label_probe(
    x: Float32[np.ndarray, "N D"],
    y: Int64[np.ndarray, "N C"],
    new: Float32[np.ndarray, "M D"],
) -> ProbeScore:
    """Which labels each new paper has: one against the rest, linear SVMs with the hinge.

    Each label has its own cost, chosen as in `classification_probe`, in few-shot runs too.
    """
    from sklearn.svm import LinearSVC

    told = ProbeScore(np.zeros((len(new), y.shape[1]), dtype=np.int64))
    for label, column in enumerate(y.T):
        rarer = int(min(column.sum(), len(column) - column.sum()))
        if not rarer:
            told.found[:, label] = column[0]
            told.constant += 1
            continue
        machine = LinearSVC(
            loss="hinge", dual=_DUAL, max_iter=MULTI_LABEL_ITERATIONS, random_state=SEED
        )
        fitted = _fit(machine, CLASS_COSTS, min(FOLDS, rarer), x, column, told)
        told.found[:, label] = fitted.predict(new)
    return told


def regression_probe(
    x: Float32[np.ndarray, "N D"],
    y: Float[np.ndarray, " N"],
    new: Float32[np.ndarray, "M D"],
) -> ProbeScore:
    """A number for each new paper, by linear support vector regression.

    The cost is chosen from `NUMBER_COSTS` by R2 in `FOLDS` folds, not shuffled.
    """
    from sklearn.svm import LinearSVR

    told = ProbeScore(np.empty(len(new), dtype=np.float64))
    machine = LinearSVR(dual=_DUAL, random_state=SEED)
    folds = FOLDS if len(y) >= 2 * FOLDS else 0  # R2 needs two papers in each fold
    told.found[:] = _fit(machine, NUMBER_COSTS, folds, x, y, told).predict(new)
    return told


def class_samples(
    y: Int64[np.ndarray, " N"], size: int, runs: int
) -> list[Int64[np.ndarray, " _"]]:
    """Training papers of few-shot runs: the folds, not shuffled, of a stratified split.

    There are ``N / size`` folds, rounded up, of about ``size`` papers, each the training set of a
    run; the first ``runs`` of them are taken. A class with fewer papers is absent from some.

    Raises:
        UserError: there is but one fold, or more folds than any class has papers.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = ceil(len(y) / size)
    most = int(np.bincount(y).max())
    if not 2 <= folds <= most:
        raise UserError(
            f"sample_size {size} makes {folds} folds of {len(y)} training papers; there must be 2 "
            f"or more, and no more than the largest class has papers ({most})."
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
        # The published draws come from numpy's older generator, which alone gives them again.
        draw = np.random.RandomState(SEED + run)
        few = [draw.choice(m, min(size, len(m)), replace=False) for m in members if len(m)]
        samples.append(np.unique(np.concatenate(few)))
    return samples


def check_installed() -> None:
    """Make sure that there is scikit-learn.

    Raises:
        UserError: there is none.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError(
            "Tasks of classification and regression need scikit-learn: "
            "pip install 'sciembed_train[probes]'."
        ) from error


def _fit(
    machine: Any, costs: tuple[float, ...], folds: int | None, x: Any, y: Any, told: ProbeScore
) -> Any:
    """The machine fitted on all training papers, at the best cost or, without folds, the default.

    Args:
        machine: not fitted yet.
        costs: to choose from.
        folds: None where no cost is to be chosen; below 2 where none can be.
        x: embeddings.
        y: what is to be learned.
        told: is told of the machine.
    """
    from sklearn.model_selection import GridSearchCV

    x = x.astype(np.float64)  # once, not in every fit
    with _quiet():
        if folds is not None and folds >= 2:
            jobs = _cores() if x.size >= LARGE else 1
            grid = GridSearchCV(machine, {"C": list(costs)}, cv=folds, n_jobs=jobs)
            fitted = grid.fit(x, y).best_estimator_
        else:
            told.untuned += folds is not None
            fitted = machine.set_params(C=DEFAULT_COST).fit(x, y)
    told.costs.append(float(fitted.C))
    told.unfinished += int(np.max(fitted.n_iter_) >= fitted.max_iter)
    return fitted


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that tell what `ProbeScore` counts, or what `class_samples` says."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        yield


def _cores() -> int:
    there = getattr(os, "sched_getaffinity", None)
    return len(there(0)) if there else os.cpu_count() or 1
