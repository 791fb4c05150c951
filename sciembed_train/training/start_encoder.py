"""How a recipe's encoder begins: as its start encoder is used, unless the user sets otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from sciembed_train.config.recipe_options import Recipe
from sciembed_train.encoder.io.published_models import published_model
from sciembed_train.encoder.io.start_model import KEPT, StartResolution, read_start, resolve


def start_of_recipe(
    recipe: Recipe, compared_by: str | None = None, resumed: Path | None = None
) -> StartResolution:
    """The settings that a recipe takes from its start; none if ``encoder.keep_start`` is false.

    A run that is resumed has been settled: its ``config.yaml`` is taken instead of the start. A
    start known by its name alone decides nothing in the recipe that names it.

    Args:
        recipe: parsed.
        compared_by: the similarity that the method trains.
        resumed: the checkpoint that a run goes on from, or that is validated.

    Raises:
        UserError: the start's files are malformed, or ask for what is not built.
    """
    encoder = recipe.namespace.model.init_args.encoder
    if not encoder.keep_start or not encoder.backbone:
        return StartResolution()
    keys = recipe.explicit.keys
    if resumed is not None and (recorded := _recorded(resumed)) is not None:
        return StartResolution({k: v for k, v in recorded.items() if k not in keys})
    own = encoder.backbone == recipe.explicit.recipe_backbone
    # A hub name that is known is not fetched for this.
    if own and published_model(encoder.backbone) and not Path(encoder.backbone).exists():
        return StartResolution()
    start = read_start(encoder.backbone, encoder.pooling if "pooling" in keys else None)
    if own and start.by_name:
        return StartResolution()
    values = encoder.as_dict()
    resolution = resolve(values, keys, start)
    unit = resolution.settings.get("normalize", values["normalize"])
    if start.similarity and compared_by and start.similarity != compared_by and not unit:
        warning = (
            f"{start.start} is made for {start.similarity} ({start.sources['similarity']}), and "
            f"the method trains for {compared_by}."
        )
        resolution = replace(resolution, warnings=(*resolution.warnings, warning))
    return resolution


def apply_start(encoder: Any, resolution: StartResolution) -> None:
    """Write the settled values into the parsed settings of an encoder."""
    for key, value in resolution.settings.items():
        encoder[key] = Namespace(**value) if key == "input_format" else value
    if resolution.settings and encoder.pooling != "mix":
        encoder.mix_init = "uniform"
    encoder.keep_start = False


def settle_start(recipe: Recipe) -> None:
    """`start_of_recipe` and `apply_start`, for commands that prepare or show a recipe's data."""
    if recipe.backbone:
        apply_start(recipe.namespace.model.init_args.encoder, start_of_recipe(recipe))


def _recorded(checkpoint: Path) -> dict[str, Any] | None:
    """The encoder's kept settings in the run's ``config.yaml``; None where there is none."""
    path = checkpoint.parent / "config.yaml"
    if not path.is_file():
        return None
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = content.get("model") if isinstance(content, dict) else None
    encoder = ((model or {}).get("init_args") or {}).get("encoder") or {}
    return {key: encoder[key] for key in KEPT if key in encoder} or None
