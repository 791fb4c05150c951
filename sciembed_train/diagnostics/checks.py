"""All checks, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


def exchanges(recipes: list[str], gpus: int) -> Iterator[Finding]:
    """What each rank sends in a step of a recipe; nothing with one GPU.

    Args:
        recipes: files of settings.
        gpus: the number of ranks.

    Raises:
        UserError: a recipe cannot be read.
    """
    from sciembed_train.training.communication import of_recipe

    if gpus < 2:
        return
    volumes = list(of_recipe(recipes, gpus))
    for volume in volumes:
        sent = f"{volume.sent / 1e6:,.1f} MB sent by each of {gpus} GPUs in a step"
        yield Finding("exchange", volume.name, "ok", f"{sent}: {volume.detail}")
    total = sum(volume.sent for volume in volumes)
    yield Finding("exchange", "together", "ok", f"{total / 1e6:,.1f} MB")
