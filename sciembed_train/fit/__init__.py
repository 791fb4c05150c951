"""The verbs ``fit`` and ``validate``: a recipe, a machine and a corpus become a run."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run ``train fit``; returns the exit code."""
    from sciembed_train.fit.command import fit

    return fit(argv)


def validate(argv: list[str]) -> int:
    """Run ``train validate``; returns the exit code."""
    from sciembed_train.fit.command import validate

    return validate(argv)
