"""Whether a trained encoder is better than its start: rule, wording, and the choice of alpha.

No encoder is run here: scores of queries come in, of the target (what the training was for) and of
the guards (what must not be lost).

Shapes: ``Q`` queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from sciembed_train.config.verdict_settings import ALPHAS, RESAMPLES
from sciembed_train.evaluation.significance import Comparison, compare, holm

Outcome = Literal["BETTER", "NO DIFFERENCE", "WORSE"]
# Scores of queries by the name of what they are of: the target and the guards.
Scores = Mapping[str, Float64[np.ndarray, " Q"]]

# A guard that falls by more than half a point in the choice of alpha has fallen.
TOLERANCE = 0.005
# With fewer queries an interval says little.
FEW_QUERIES = 50


@dataclass(frozen=True)
class Verdict:
    """The trained encoder beside its start, on queries that chose nothing.

    BETTER: the target's interval lies above 0, and no guard's lies wholly below. WORSE, which wins:
    an interval lies wholly below 0, a guard's or the target's own. Else NO DIFFERENCE.

    Args:
        target: the name of what the training was for.
        metric: what the target's queries are scored by, such as ``map``.
        comparisons: start and trained encoder on the target and on each guard, by name.
        alpha: share of the trained weights in the encoder; 1 where nothing was merged.
    """

    target: str
    metric: str
    comparisons: Mapping[str, Comparison]
    alpha: float = 1.0

    @property
    def worse_on(self) -> list[str]:
        """The guards, and the target, whose intervals lie wholly below 0."""
        return [name for name, comparison in self.comparisons.items() if comparison.loss]

    @property
    def outcome(self) -> Outcome:
        """See above."""
        if self.worse_on:
            return "WORSE"
        return "BETTER" if self.comparisons[self.target].gain else "NO DIFFERENCE"

    @property
    def line(self) -> str:
        """The last line of a run."""
        outcome = self.outcome
        own = f"{self.target} {self.metric} {self.comparisons[self.target]}"
        guards = {name: c for name, c in self.comparisons.items() if name != self.target}
        if outcome == "WORSE":
            losses = [f"{name} {guards[name]}" for name in self.worse_on if name != self.target]
            parts = "; ".join([*losses, own])
            return f"VERDICT: WORSE ON {', '.join(self.worse_on)}: {parts}"
        changes = ", ".join(f"{name} {c.difference:+.4f}" for name, c in guards.items())
        kept = f"no guard significantly lower ({changes})" if guards else "there were no guards"
        return f"VERDICT: {outcome}: {own}; {kept}"

    @property
    def notes(self) -> list[str]:
        """Remarks on the line for its reader."""
        notes = []
        few = [f"{n} ({c.queries})" for n, c in self.comparisons.items() if c.queries < FEW_QUERIES]
        if few:
            notes.append(f"Few queries, so that only large differences show: {', '.join(few)}.")
        own = self.comparisons[self.target]
        if self.outcome == "NO DIFFERENCE":
            notes.append(
                f"With {own.queries:,} queries a difference of {self.target} below about "
                f"{(own.high - own.low) / 2:.4f} cannot be told from none."
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``results.json``; p-values also as corrected for their number."""
        corrected = holm({name: c.p_value for name, c in self.comparisons.items()})
        return {
            "outcome": self.outcome,
            "worse_on": self.worse_on,
            "line": self.line,
            "notes": self.notes,
            "target": self.target,
            "metric": self.metric,
            "alpha": self.alpha,
            "comparisons": {
                name: {**c.as_dict(), "p_value_holm": corrected[name]}
                for name, c in self.comparisons.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict of which `as_dict` gave the values."""
        comparisons = {
            name: Comparison.from_dict({k: v for k, v in one.items() if k != "p_value_holm"})
            for name, one in values["comparisons"].items()
        }
        return cls(values["target"], values["metric"], comparisons, values["alpha"])


def judge(
    before: Scores,
    after: Scores,
    target: str,
    metric: str,
    alpha: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Verdict:
    """The verdict on scores of the same queries before and after training.

    Args:
        before: of the start encoder, by target and guard, ``[Q]`` each.
        after: of the trained one, in the same order of queries.
        target: which of them the training was for.
        metric: what the target's queries are scored by.
        alpha: share of the trained weights.
        seed: of the resamples.
        resamples: of the bootstrap over queries.

    Raises:
        ValueError: target or guards are not the same before and after, or their queries are not.
    """
    if before.keys() != after.keys() or target not in before:
        raise ValueError(
            f"expected {target} and guards before and after; got {sorted(before)} and "
            f"{sorted(after)}"
        )
    names = [target, *(name for name in before if name != target)]
    comparisons = {name: compare(before[name], after[name], resamples, seed) for name in names}
    return Verdict(target, metric, comparisons, alpha)


@dataclass(frozen=True)
class AlphaPoint:
    """The scores of an encoder with a share of the trained weights, on the dev queries.

    Args:
        alpha: the share.
        scores: the mean of target and guards, by name.
        fallen: the guards that have fallen.
    """

    alpha: float
    scores: Mapping[str, float]
    fallen: tuple[str, ...]


@dataclass(frozen=True)
class AlphaChoice:
    """The share of the trained weights that is kept.

    Args:
        alpha: the share.
        keeps_guards: whether there was one that leaves every guard where it was.
        start: the start encoder's means, by target and guard.
        curve: every share that was tried.
        near_start: whether it is the smallest whose target is as good as the best's for all that
            the queries show.
    """

    alpha: float
    keeps_guards: bool
    start: Mapping[str, float]
    curve: tuple[AlphaPoint, ...]
    near_start: bool = False

    def __str__(self) -> str:
        kept = "" if self.keeps_guards else "; a guard falls with every share: the smallest"
        return f"{self.alpha:g} of the trained weights{kept}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``results.json``."""
        return asdict(self)


def choose_alpha(
    score: Callable[[float], Scores],
    before: Scores,
    target: str,
    alphas: Sequence[float] = ALPHAS,
    near_start: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> AlphaChoice:
    """The share of the trained weights with the best target at which no guard has fallen.

    A guard has fallen where its mean is lower than the start's by more than ``tolerance``, or the
    interval of its difference lies wholly below 0. Of equal targets the smaller share wins, which
    is nearer to the start. Where a guard falls with every share, it is the smallest share.

    Args:
        score: scores of the queries with a share of the trained weights; called once a share.
        before: those of the start encoder.
        target: which of them the training was for.
        alphas: the shares to try, above 0 and at most 1.
        near_start: take the smallest of them whose target is not significantly below the best's:
            a projection is to be learned, which needs less of the training.
        tolerance: how far a guard's mean may fall, in the unit of its metric.
        seed: of the resamples.
        resamples: of the bootstrap over queries.

    Raises:
        ValueError: there is no share, or one is out of its range.
    """
    if not alphas or not all(0 < alpha <= 1 for alpha in alphas):
        raise ValueError(f"alphas are {list(alphas)}; expected shares above 0 and at most 1")
    curve: list[AlphaPoint] = []
    targets: dict[float, Float64[np.ndarray, " Q"]] = {}
    for alpha in sorted(alphas):
        after = score(alpha)
        targets[alpha] = after[target]
        comparisons = judge(before, after, target, "", alpha, seed, resamples).comparisons
        fallen = tuple(
            name
            for name, c in comparisons.items()
            if name != target and (c.loss or c.difference < -tolerance)
        )
        curve.append(AlphaPoint(alpha, {n: c.after for n, c in comparisons.items()}, fallen))
    kept = [point for point in curve if not point.fallen]
    best = max(kept, key=lambda point: point.scores[target], default=curve[0])
    if near_start and kept:
        highest = targets[best.alpha]
        best = next(
            point
            for point in kept
            if not compare(highest, targets[point.alpha], resamples, seed).loss
        )
    start = {name: float(np.mean(values)) for name, values in before.items()}
    return AlphaChoice(best.alpha, bool(kept), start, tuple(curve), near_start)


@dataclass(frozen=True)
class TrainingChoices:
    """The settings of a training that decide how much of its start it forgets.

    Args:
        start: the start encoder, as it was named.
        run: folder of the run.
        lr: the highest learning rate.
        layer_decay: see `OptimSettings`.
        freeze_embeddings: see `OptimSettings`.
        ema: see `OptimSettings`.
        pooling: of the trained encoder.
        start_pooling: what the start was made for; None where nothing records it.
        projection_share: how much of a learned projection the encoder has; None where it has none.
    """

    start: str
    run: str
    lr: float
    layer_decay: float = 1.0
    freeze_embeddings: bool = False
    ema: float | None = None
    pooling: str = ""
    start_pooling: str | None = None
    projection_share: float | None = None


def advice(verdict: Verdict, choices: TrainingChoices) -> list[str]:
    """Settings to try where the encoder has become worse, the most promising first.

    Nothing where it has not.
    """
    if verdict.outcome != "WORSE":
        return []
    settings = [
        (
            choices.start_pooling not in (None, choices.pooling),
            f"--model.encoder.pooling {choices.start_pooling}, which {choices.start} was made for",
        ),
        (
            choices.projection_share is not None and verdict.worse_on != [verdict.target],
            f"--projection.share {(choices.projection_share or 0) / 2:g}, or --projection.steps 0 "
            "for no projection",
        ),
        (
            verdict.alpha == 1 and verdict.worse_on != [verdict.target],
            f"train merge {choices.start} {choices.run} --weights 0.5 0.5 --to merged, which keeps "
            "half of the start without training again",
        ),
        (True, f"--model.optim.lr {choices.lr / 2:g}"),
        (choices.layer_decay == 1, "--model.optim.layer_decay 0.9"),
        (choices.ema is None, "--model.optim.ema 0.999"),
        (not choices.freeze_embeddings, "--model.optim.freeze_embeddings"),
    ]
    return [text for applies, text in settings if applies]
