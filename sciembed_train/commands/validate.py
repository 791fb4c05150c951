"""The command ``validate``: the validation scores of a checkpoint."""

from __future__ import annotations

from sciembed_train.training.fit import validate


def main(argv: list[str]) -> int:
    """The command ``train validate``."""
    return validate(argv)
