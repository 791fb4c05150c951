"""What a user with a small collection should know before training begins."""

from __future__ import annotations

from collections.abc import Iterator

from sciembed_train.sampling.base import Examples

# Judgements; docs/how-to/own-citations.md, "How much is enough", says what they rest on.
FEWEST_EXAMPLES = 1_000
FEWEST_QUERIES = 100


def data_advice(examples: Examples, test_queries: int | None) -> Iterator[str]:
    """Warnings where there is too little to expect a gain from, or to see one.

    Args:
        examples: of the run.
        test_queries: papers by which a verdict compares the trained encoder with its start; None
            where there is no verdict.
    """
    count = examples.train if examples.paper_pairs is None else examples.paper_pairs
    name = examples.name if examples.paper_pairs is None else "pairs of two papers"
    if count < FEWEST_EXAMPLES:
        yield (
            f"warning: {count:,} training {name} are too few to expect a gain; {FEWEST_EXAMPLES:,} "
            "are a fair beginning. More papers and citations help more than more epochs."
        )
    if test_queries is not None and test_queries < FEWEST_QUERIES:
        yield (
            f"warning: the verdict compares {test_queries:,} test queries; with fewer than "
            f"{FEWEST_QUERIES} a gain of the usual size can hardly be told from chance. A larger "
            "--data.test_share holds more of them out."
        )
