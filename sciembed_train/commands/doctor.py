"""The command ``doctor``: what this machine has, what would run, what would not and why."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.recipes import split_recipes
from sciembed_train.diagnostics.checks import examine, exchanges
from sciembed_train.diagnostics.finding import render
from sciembed_train.diagnostics.stored_files import verify
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress


@dataclass(frozen=True)
class DoctorCommand:
    """What is examined.

    Args:
        gpus: count what so many GPUs exchange in a step of the recipe.
        measure: measure the implementations of attention (``encoder.attention``).
        json: print one JSON object instead of a table.
        verify: a corpus, a run or a checkpoint: compare its files with their checksums, all of
            them read whole, and do nothing else.

    Raises:
        UserError: options do not go together.
    """

    gpus: int = 1
    measure: bool = False
    json: bool = False
    verify: str | None = None

    def __post_init__(self) -> None:
        if self.measure and self.json:
            raise UserError("--measure prints a table for people; leave --json out.")
        if self.gpus < 1:
            raise UserError(f"--gpus must be 1 or more; got {self.gpus}.")


def command_line() -> RecipeCommandLine:
    """The options of ``train doctor``."""
    line = RecipeCommandLine(
        "doctor",
        "Report what this machine has, what would run on it, and what would not and why.",
        examples=("-c specter --gpus 8", "--verify checkpoints/specter"),
        common=("config", "gpus", "measure", "verify", "json"),
    )
    line.add(DoctorCommand)
    return line


def main(argv: list[str]) -> int:
    """Print what this machine has and can do; 1 when something must be repaired first, else 0."""
    recipe = command_line().read(argv)
    command = recipe.get(DoctorCommand)
    if command.gpus < 2:
        _refuse_recipe(argv, recipe.typed)
    if command.verify is not None:
        print(verify(Path(command.verify), Progress()))
        return 0
    findings = examine(Path("checkpoints"))
    if command.gpus > 1:
        findings += exchanges(recipe, command.gpus)
    ready = all(finding.state != "bad" for finding in findings)
    if command.json:
        print(json.dumps({"ready": ready, "findings": list(map(asdict, findings))}, indent=2))
    else:
        print(render(findings))
    if command.measure and ready:
        from sciembed_train.encoder.profiling.attention_speed import report

        print(f"\n{report()}")
    return 0 if ready else 1


def _refuse_recipe(argv: list[str], typed: Collection[str]) -> None:
    """Only ``--gpus`` reads a recipe: without it, its settings would go unread and unchecked."""
    if split_recipes(argv)[0]:
        raise UserError("-c names a recipe for --gpus: give the number of GPUs, such as --gpus 8.")
    unread = sorted(key for key in typed if "." in key)
    if unread:
        raise UserError(
            f"--{unread[0]} is a setting of recipes, which `doctor` reads for --gpus alone: give "
            "the number of GPUs, such as --gpus 8."
        )
