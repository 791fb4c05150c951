"""How triplets are sampled from the neighbours of a paper in an embedding of the citation graph.

SciNCL, Ostendorff et al. (2022). A *band* is a range of ranks among the neighbours of a query, the
nearest at rank 0 and the query itself not among them: half-open, as a Python slice.
"""

from __future__ import annotations

from dataclasses import dataclass

from sciembed_train.errors import UserError

FEWEST_DIMENSIONS, MOST_DIMENSIONS = 16, 4096


@dataclass(frozen=True)
class Bands:
    """Ranks of positives and of hard negatives among the neighbours, each a (first, end)."""

    positives: tuple[int, int]
    hard: tuple[int, int]

    @property
    def kept(self) -> int:
        """The neighbours that must be known; easy negatives are outside them."""
        return max(self.positives[1], self.hard[1])


@dataclass(frozen=True)
class NeighbourMining:
    """How triplets are sampled from citation neighbours; defaults are SciNCL's.

    The published bands belong to an index of about 300,000 papers (our estimate). In a smaller
    graph the ranks are nearer, by a rule (`bands`), unless ``reproduce`` is set.

    Args:
        per_query: triplets of a query, 1 to 100; each has a positive of its own.
        hard: how many of them take a hard negative; the others take an easy one, a random paper
            that is no neighbour.
        positives_from: first rank of the positives; 0 is the nearest paper.
        positives_to: the rank behind their last.
        hard_from: first rank of the hard negatives.
        hard_to: the rank behind their last. Easy negatives are farther than this.
        full_size: papers with a text and a citation from which on the bands stand as they are; of
            fewer, they begin at the same share of the papers.
        nearest_hard: hard negatives of a small graph are not nearer than this rank, or than half
            of its papers where that is less.
        dimension: of the graph embedding.
        reproduce: take the bands as they are, whatever the size of the graph; refused where it is
            too small for them.

    Raises:
        UserError: a value is out of its range, or a band narrower than what is drawn from it.
    """

    per_query: int = 5
    hard: int = 2
    positives_from: int = 20
    positives_to: int = 25
    hard_from: int = 3998
    hard_to: int = 4000
    full_size: int = 300_000
    nearest_hard: int = 100
    dimension: int = 768
    reproduce: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.per_query <= 100:
            raise UserError(f"neighbour_mining.per_query must be 1 to 100; got {self.per_query}.")
        if not 0 <= self.hard <= self.per_query:
            raise UserError(
                f"neighbour_mining.hard must be 0 to per_query, here {self.per_query}; got "
                f"{self.hard}."
            )
        for name, least in (("positives_from", 0), ("full_size", 1), ("nearest_hard", 0)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"neighbour_mining.{name} must be {least} or more; got {value}.")
        bands = (("positives", self.per_query), ("hard", self.hard))
        for name, count in bands:
            first, end = getattr(self, f"{name}_from"), getattr(self, f"{name}_to")
            if end - first < count:
                raise UserError(
                    f"neighbour_mining.{name}_from and {name}_to hold {max(end - first, 0)} ranks "
                    f"({first} to {end - 1}), and {count} papers of a query are drawn from them: "
                    "give a wider band, or draw fewer."
                )
        if self.hard_from < self.positives_to:
            raise UserError(
                f"neighbour_mining.hard_from is {self.hard_from}, among the positives, which end "
                f"below {self.positives_to}: a paper would be both. Give a higher one."
            )
        if not FEWEST_DIMENSIONS <= self.dimension <= MOST_DIMENSIONS:
            raise UserError(
                f"neighbour_mining.dimension must be {FEWEST_DIMENSIONS} to {MOST_DIMENSIONS}; got "
                f"{self.dimension}."
            )

    def bands(self, papers: int) -> Bands:
        """The ranks that are taken in an index of so many papers, the query among them.

        With ``s = min(1, papers / full_size)`` and ``n = papers - 1``: positives begin at
        ``floor(s * positives_from)``; hard negatives at ``floor(s * hard_from)``, but not before
        ``min(nearest_hard, n // 2)`` nor among the positives. Both keep their width, and end at
        ``n`` at the latest. With ``reproduce`` they stand as they are.

        Raises:
            UserError: with ``reproduce`` there are not ``hard_to`` other papers.
        """
        positives = self.positives_from, self.positives_to
        hard = self.hard_from, self.hard_to
        if self.reproduce:
            if papers < self.hard_to + 1:
                raise UserError(
                    f"neighbour_mining.reproduce needs {self.hard_to + 1:,} papers with a text and "
                    f"a citation, for hard negatives up to the {self.hard_to:,}th neighbour; there "
                    f"are {papers:,}. Leave it out, and the bands are scaled to the graph, or give "
                    "more papers and citations."
                )
            return Bands(positives, hard)
        others, share = papers - 1, min(1.0, papers / self.full_size)
        near = _moved(positives, int(share * positives[0]), others)
        least = min(self.nearest_hard, others // 2)
        start = min(hard[0], max(int(share * hard[0]), least))
        return Bands(near, _moved(hard, max(start, near[1]), others))


def _moved(band: tuple[int, int], start: int, most: int) -> tuple[int, int]:
    """The band at another start, with no rank at or above ``most``."""
    return min(start, most), min(start + band[1] - band[0], most)
