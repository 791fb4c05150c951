"""How a trained encoder is compared with its start. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sciembed_train.errors import UserError

# Shares of the trained encoder's weights that are tried, the rest being the start's.
ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0)
RESAMPLES = 10_000
MOST_RESAMPLES = 10_000_000


@dataclass(frozen=True)
class VerdictSettings:
    """The comparison of the trained encoder with its start.

    Args:
        verdict: ``auto`` scores both where the corpus has citations and held-out papers, mixes
            their weights where that is better, and ends the run with a verdict; ``off`` leaves all
            of it out.
        guards: what must not become worse, beside title to abstract and abstract halves of the
            corpus's own held-out papers: folders of searches (papers, queries, qrels), systematic
            reviews, co-citations, CSFCube, RELISH and the like, another corpus with citations, or
            files of papers (title to abstract).
        alphas: shares of the trained weights, the rest being the start's, of which dev queries
            choose one: the best, or, if a projection follows, the smallest not significantly below
            the best. ``[1.0]`` keeps the weights as they were trained. null tries 0.2, 0.4, 0.6,
            0.8 and 1 if the start is an encoder (its files or name say how it is used), and only 1
            if it is a language model.
        resamples: of the bootstrap over queries.
        verdict_seed: of the resamples, and of every sample of queries and candidates.

    Raises:
        UserError: a value is out of its range.
    """

    verdict: Literal["auto", "off"] | bool = "auto"
    guards: list[str] | str = ""
    alphas: list[float] | None = None
    resamples: int = RESAMPLES
    verdict_seed: int = 0

    def __post_init__(self) -> None:
        shares = ALPHAS if self.alphas is None else self.alphas
        if not shares or not all(0 < alpha <= 1 for alpha in shares):
            raise UserError(f"alphas is {self.alphas}; expected shares above 0 and at most 1.")
        if self.resamples < 1:
            raise UserError(f"resamples must be 1 or more; got {self.resamples}.")
        if self.resamples > MOST_RESAMPLES:
            raise UserError(f"resamples must be {MOST_RESAMPLES:,} or fewer; got {self.resamples}.")
        if self.verdict_seed < 0:
            raise UserError(f"verdict_seed must be 0 or more; got {self.verdict_seed}.")

    @property
    def active(self) -> bool:
        """Whether there is to be a verdict; a plain ``off`` in YAML is false."""
        return self.verdict not in ("off", False)

    @property
    def folders(self) -> list[str]:
        """The folders of ``guards``."""
        names = [self.guards] if isinstance(self.guards, str) else self.guards
        return [name for name in names if name]
