"""What was mined, as numbers and as a table: scores, and what was passed over and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.hard_negatives.relations import Relation

REASONS = {
    Relation.POSITIVE: "positives of the query",
    Relation.CITES: "cited by it",
    Relation.CITED_BY: "citing it",
    Relation.COCITED: "cited together with it",
    Relation.SAME_TITLE: "of the same title",
    Relation.SAME_TEXT: "of the same text",
}


@dataclass(frozen=True)
class ScoreSpread:
    """The spread of some scores.

    Args:
        count: how many.
        mean: of all.
        low: a twentieth lie below.
        median: half lie below.
        high: a twentieth lie above.
    """

    count: int
    mean: float
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, scores: NDArray[np.floating]) -> ScoreSpread:
        """The spread of scores; zeros where there are none."""
        if not len(scores):
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        low, median, high = np.quantile(scores, (0.05, 0.5, 0.95)).tolist()
        return cls(len(scores), float(np.mean(scores, dtype=np.float64)), low, median, high)


@dataclass(frozen=True)
class MiningSummary:
    """What was mined.

    Args:
        queries: papers that negatives were looked for.
        full: those that have as many as were asked for.
        without: those that have none.
        positives: scores of the positives.
        negatives: scores of the negatives.
        two_hop: negatives that are cited by a paper which the query cites; None if not looked for.
        related: papers among the nearest that were taken out as related, by reason.
        passed_over: candidates that were passed over as the very nearest.
        too_similar: candidates that were left out because they scored above the limit.
    """

    queries: int
    full: int
    without: int
    positives: ScoreSpread
    negatives: ScoreSpread
    two_hop: int | None
    related: dict[str, int]
    passed_over: int
    too_similar: int

    @classmethod
    def of(
        cls,
        papers: NDArray[np.integer],
        scores: NDArray[np.floating],
        positives: NDArray[np.floating],
        counts: NDArray[np.integer],
        two_hop: bool,
    ) -> MiningSummary:
        """The summary of negatives ``[Q, K]``, their scores, and `Block`'s counts ``[Q, 10]``."""
        mined = (papers >= 0).sum(1)
        totals = counts.sum(0).tolist()
        passed_over, too_similar, hops = totals[-3:]
        return cls(
            queries=len(papers),
            full=int((mined == papers.shape[1]).sum()),
            without=int((mined == 0).sum()),
            positives=ScoreSpread.of(positives),
            negatives=ScoreSpread.of(scores[papers >= 0]),
            two_hop=hops if two_hop else None,
            related={relation.name.lower(): totals[relation] for relation in REASONS},
            passed_over=passed_over,
            too_similar=too_similar,
        )

    def table(self) -> str:
        """The lines for a terminal."""
        lines = [f"{'':<12}{'number':>12}{'mean':>8}{'5 %':>8}{'median':>8}{'95 %':>8}"]
        for name, spread in (("positives", self.positives), ("negatives", self.negatives)):
            parts = (spread.mean, spread.low, spread.median, spread.high)
            lines.append(f"{name:<12}{spread.count:>12,}" + "".join(f"{x:>8.3f}" for x in parts))
        fewer = self.queries - self.full - self.without
        lines.append(
            f"{self.queries:,} queries: {self.full:,} with all negatives, {fewer:,} with fewer, "
            f"{self.without:,} with none"
        )
        if self.two_hop is not None:
            lines.append(f"{self.two_hop:,} negatives are cited by a paper that the query cites")
        related = [
            f"{self.related[relation.name.lower()]:,} {reason}"
            for relation, reason in REASONS.items()
            if self.related[relation.name.lower()]
        ]
        lines.append(f"left out of the nearest: {', '.join(related) or 'no related paper'};")
        lines.append(
            f"  {self.passed_over:,} passed over as the very nearest, {self.too_similar:,} more "
            "similar than the limit"
        )
        if 2 * self.without > self.queries:
            lines.append(
                "Most queries have no negative: few papers are that much less similar than the "
                "positives. Raise --margin, up to 1, or the last of --ranks."
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Mined:
    """Mined negatives in a corpus.

    Args:
        folder: where they lie.
        name: by which `data.sampling.mined_by` names them.
        count: negatives of a query, at most.
        continued_from: queries that an earlier run, which stopped, had done.
        summary: what was mined.
    """

    folder: Path
    name: str
    count: int
    continued_from: int
    summary: MiningSummary

    def __str__(self) -> str:
        lines = [
            f"{self.folder}: at most {self.count} negatives of each of "
            f"{self.summary.queries:,} queries"
        ]
        if self.continued_from:
            lines.append(
                f"{self.continued_from:,} queries were done already by a mining that had stopped"
            )
        return "\n".join([*lines, self.summary.table()])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "count": self.count,
            "continued_from": self.continued_from,
            **self.summary.as_dict(),
        }
