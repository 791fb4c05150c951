"""The command ``fit``: a recipe, a machine and a corpus become a run."""

from __future__ import annotations

from sciembed_train.config.recipe_options import RecipeCommandLine


def command_line() -> RecipeCommandLine:
    """The options of ``train fit``."""
    return RecipeCommandLine(
        "fit",
        "Train an encoder with the settings of a recipe. Results go to checkpoints/<run>/.",
        trains=True,
        examples=(
            "-c own_citations --data.papers papers.jsonl --data.citations cites.csv",
            "-c specter --data.corpus corpus --run specter --ckpt_path last",
        ),
        common=(
            *("config", "print_config", "data.corpus", "data.papers", "data.citations"),
            *("data.batch_size", "model.encoder.backbone", "model.optim.lr"),
            *("trainer.max_epochs", "trainer.max_steps", "trainer.devices", "run", "ckpt_path"),
            *("verdict", "guards", "projection.steps", "projection.share"),
        ),
    )


def main(argv: list[str]) -> int:
    """The command ``train fit``."""
    recipe = command_line().read(argv)
    from sciembed_train.training.fit import fit

    code, _ = fit(recipe)
    return code
