"""The command ``validate``: the validation scores of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sciembed_train.config.recipe_options import RecipeCommandLine


@dataclass(frozen=True)
class ValidateCommand:
    """What is printed.

    Args:
        json: print the scores as JSON.
    """

    json: bool = False


def command_line() -> RecipeCommandLine:
    """The options of ``train validate``."""
    line = RecipeCommandLine(
        "validate",
        "The validation scores of a checkpoint.",
        trains=True,
        examples=(
            "-c checkpoints/specter/config.yaml --ckpt_path checkpoints/specter/best.ckpt",
            "-c specter --data.corpus corpus --ckpt_path checkpoints/specter/last.ckpt --json",
        ),
        common=(
            *("config", "ckpt_path", "data.corpus", "data.dev_examples", "trainer.devices"),
            "json",
        ),
    )
    line.add(ValidateCommand)
    return line


def main(argv: list[str]) -> int:
    """The command ``train validate``."""
    recipe = command_line().read(argv)
    from sciembed_train.training.fit import validate

    scores = validate(recipe)
    if scores is None:  # another process prints
        return 0
    if recipe.get(ValidateCommand).json:
        print(json.dumps(scores))
        return 0
    width = max(map(len, scores))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))
    return 0
