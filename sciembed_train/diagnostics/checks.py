"""All checks, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sciembed_train.config.recipe_options import Recipe
from sciembed_train.diagnostics.finding import Finding
from sciembed_train.diagnostics.machine import accelerators, disk, machine
from sciembed_train.diagnostics.packages import packages, requirements, safety, tasks, versions


def examine(checkpoints: Path) -> list[Finding]:
    """The findings on the machine and its packages.

    Args:
        checkpoints: the folder of runs.
    """
    installed, needs = versions(), requirements()
    return [
        *machine(),
        *accelerators(),
        *packages(needs, installed),
        *safety(installed),
        *tasks(needs, installed),
        *disk(checkpoints),
    ]


def exchanges(recipe: Recipe, gpus: int) -> Iterator[Finding]:
    """What each rank sends in a step of a recipe.

    Args:
        recipe: as it was parsed.
        gpus: the number of ranks.

    Raises:
        UserError: the recipe names no method or backbone, or the ranks cannot share its batch.
    """
    from sciembed_train.training.communication import of_recipe

    volumes = list(of_recipe(recipe, gpus))
    for volume in volumes:
        sent = f"{volume.sent / 1e6:,.1f} MB sent by each of {gpus} GPUs in a step"
        yield Finding("exchange", volume.name, "ok", f"{sent}: {volume.detail}")
    total = sum(volume.sent for volume in volumes)
    yield Finding("exchange", "together", "ok", f"{total / 1e6:,.1f} MB")
