"""Intervals and tests for means over queries; the only implementation of significance.

Two systems are compared on the same queries, by the differences of each query's scores.

Shapes: ``Q`` queries, ``R`` resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

RESAMPLES = 10_000
LEVEL = 0.95
BLOCK_ENTRIES = 2**22  # random numbers in memory at once: 32 MiB


@dataclass(frozen=True)
class MeanScore:
    """A mean over queries, with its interval.

    Args:
        value: the mean.
        low: lower end of the interval.
        high: upper end of the interval.
        queries: how many scores the mean is of.
        level: coverage of the interval, 0 to 1.

    Example:
        >>> print(MeanScore(0.3117, 0.281, 0.343, 345))
        0.3117 (95% interval 0.2810 to 0.3430, 345 queries)
    """

    value: float
    low: float
    high: float
    queries: int
    level: float = LEVEL

    def __str__(self) -> str:
        return (
            f"{self.value:.4f} ({self.level * 100:g}% interval {self.low:.4f} to {self.high:.4f}, "
            f"{self.queries:,} queries)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The means of two systems over the same queries, and how sure their difference is.

    Args:
        before: mean of the first system.
        after: mean of the second.
        low: lower end of the interval of ``after - before``, by the paired bootstrap.
        high: upper end.
        p_value: of the two-sided randomisation test.
        queries: how many queries both have scored.
        level: coverage of the interval, 0 to 1.
        resamples: of the bootstrap and of the test.
        seed: of both.

    Example:
        >>> print(Comparison(0.3117, 0.3234, 0.0051, 0.0186, 0.0008, 345))
        0.3117 -> 0.3234: +0.0117 (95% interval +0.0051 to +0.0186, p = 0.0008, 345 queries)
    """

    before: float
    after: float
    low: float
    high: float
    p_value: float
    queries: int
    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0

    @property
    def difference(self) -> float:
        """``after - before``."""
        return self.after - self.before

    @property
    def gain(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return self.low > 0

    @property
    def loss(self) -> bool:
        """Whether the whole interval of the difference lies below 0."""
        return self.high < 0

    def __str__(self) -> str:
        return (
            f"{self.before:.4f} -> {self.after:.4f}: {self.difference:+.4f} "
            f"({self.level * 100:g}% interval {self.low:+.4f} to {self.high:+.4f}, "
            f"p = {self.p_value:.2g}, {self.queries:,} queries)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "difference": self.difference}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """The comparison of which `as_dict` gave the values."""
        return cls(**{key: value for key, value in values.items() if key != "difference"})


def mean_score(
    scores: ArrayLike, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> MeanScore:
    """The mean of a system's scores, with a percentile interval of the bootstrap over queries.

    Efron and Tibshirani (1993), chapter 13.

    Args:
        scores: of each query, ``[Q]``.
        resamples: ``R``.
        seed: of the resamples; the same seed and ``Q`` give the same ones.
        level: coverage of the interval.

    Raises:
        ValueError: there is no score, one is no number, or a setting is out of its range.
    """
    values = _checked(scores, resamples, level)
    low, high = _interval(bootstrap_means(values, resamples, seed), level)
    return MeanScore(float(values.mean()), low, high, len(values), level)


def compare(
    before: ArrayLike,
    after: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """Two systems on the same queries: paired bootstrap and randomisation test.

    The interval is the percentile interval of the mean difference over resampled queries (Sakai
    2006); the p-value that of `randomisation_test`.

    Args:
        before: the first system's score of each query, ``[Q]``.
        after: the second one's, in the same order.
        resamples: ``R``.
        seed: of the resamples.
        level: coverage of the interval.

    Raises:
        ValueError: the systems have different numbers of scores, or as `mean_score`.
    """
    first, second = _checked(before, resamples, level), _checked(after, resamples, level)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores before and {len(second)} after are no pairs")
    differences = second - first
    low, high = _interval(bootstrap_means(differences, resamples, seed), level)
    return Comparison(
        before=float(first.mean()),
        after=float(second.mean()),
        low=low,
        high=high,
        p_value=randomisation_test(differences, resamples, seed),
        queries=len(differences),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def compare_queries(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """`compare` for two tables of metrics of each query, such as ``Scores.per_query``.

    Args:
        before: the first system's metrics by query.
        after: the second one's, of the same queries.
        metric: which of them.
        resamples: as for `compare`.
        seed: as for `compare`.
        level: as for `compare`.

    Raises:
        ValueError: the queries differ, or as `compare`.
        KeyError: there is no such metric.
    """
    if before.keys() != after.keys():
        one = sorted(before.keys() ^ after.keys())[0]
        raise ValueError(f"the queries differ: {one} is scored by only one of the two systems")
    queries = sorted(before)  # the resamples do not depend on the order of the tables
    pairs = [[table[query][metric] for query in queries] for table in (before, after)]
    return compare(*pairs, resamples=resamples, seed=seed, level=level)


def bootstrap_means(
    values: Float64[np.ndarray, " Q"], resamples: int = RESAMPLES, seed: int = 0
) -> Float64[np.ndarray, " R"]:
    """Means of resamples of the values, with replacement, each as large as the values."""
    rng = np.random.default_rng(seed)
    blocks = [
        values[rng.integers(0, len(values), (rows, len(values)))].mean(1)
        for rows in _blocks(resamples, len(values))
    ]
    return np.concatenate(blocks)


def randomisation_test(
    differences: Float64[np.ndarray, " Q"], resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Two-sided p-value of a mean difference of 0: each query's sign is drawn anew.

    Fisher's randomisation test, with Smucker et al. (2007) for retrieval. All ``2 ** Q``
    assignments of signs are counted where they are no more than ``resamples``; else random ones
    and the observed one, ``(count + 1) / (R + 1)``, which is never 0 (Phipson and Smyth 2010).

    Args:
        differences: of each query.
        resamples: ``R``.
        seed: of the signs.
    """
    queries = len(differences)
    exact = queries < 63 and 2**queries <= resamples
    # Sums of the same terms in another order differ in their last bits: these count as equal.
    observed = abs(differences.mean()) - 1e-12 * np.abs(differences).mean()
    rng = np.random.default_rng(seed)
    count = first = 0
    for rows in _blocks(2**queries if exact else resamples, queries):
        if exact:
            numbers = np.arange(first, first + rows)[:, None]
            flipped = (numbers >> np.arange(queries)) & 1 == 1
            first += rows
        else:
            flipped = rng.random((rows, queries)) < 0.5
        means = np.where(flipped, -differences, differences).mean(1)
        count += int((np.abs(means) >= observed).sum())
    return count / 2**queries if exact else (count + 1) / (resamples + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for their number, by name: Holm (1979).

    The ``i``-th smallest of ``m``, counted from 0, is multiplied by ``m - i``; none is smaller
    than one before it, and none larger than 1. Those at most ``a`` are significant with a chance
    of at most ``a`` that any of them is so by accident.

    Raises:
        ValueError: one is no number from 0 to 1.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"the p-value of {name} is {value}; expected a number from 0 to 1")
    ordered = sorted(p_values, key=p_values.__getitem__)
    corrected: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(ordered):
        least = max(least, min(1.0, p_values[name] * (len(ordered) - place)))
        corrected[name] = least
    return {name: corrected[name] for name in p_values}


def _checked(scores: ArrayLike, resamples: int, level: float) -> Float64[np.ndarray, " Q"]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected the scores of one query or more, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a score is no finite number")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    return values


def _interval(means: Float64[np.ndarray, " R"], level: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _blocks(resamples: int, queries: int) -> Iterator[int]:
    """Numbers of resamples that are made at once; they do not depend on how they are cut."""
    step = max(1, BLOCK_ENTRIES // queries)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)
