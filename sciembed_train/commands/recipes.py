"""The command ``recipes``: the shipped recipes and machine files, a line each."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sciembed_train.config.parser import CommandLine
from sciembed_train.config.recipes import describe_recipe, shipped_machines, shipped_recipes


@dataclass(frozen=True)
class RecipesCommand:
    """What is printed.

    Args:
        json: print names, files and descriptions as JSON.
    """

    json: bool = False


def command_line() -> CommandLine:
    """The options of ``train recipes``."""
    line = CommandLine(
        "recipes",
        "The shipped recipes, which -c finds by name from any folder, and the files of settings of "
        "a machine.",
        examples=("", "--json"),
    )
    line.add(RecipesCommand)
    return line


def main(argv: list[str]) -> int:
    """The command ``train recipes``."""
    command = command_line().read(argv).get(RecipesCommand)
    files = {**shipped_recipes(), **shipped_machines()}
    described = {name: describe_recipe(path) for name, path in files.items()}
    if command.json:
        rows = [
            {"name": name, "file": str(files[name]), "description": text}
            for name, text in described.items()
        ]
        print(json.dumps(rows))
        return 0
    width = max(map(len, files))
    print("\n".join(f"{name:<{width}}  {text}" for name, text in described.items()))
    return 0
