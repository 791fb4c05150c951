"""The command ``fit``: a recipe, a machine and a corpus become a run."""

from __future__ import annotations

from sciembed_train.training.fit import fit


def main(argv: list[str]) -> int:
    """The command ``train fit``."""
    code, _ = fit(argv)
    return code
