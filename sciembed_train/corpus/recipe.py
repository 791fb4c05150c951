"""What a recipe says of preparing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.mining.triplets import TripletMining
from sciembed_train.errors import UserError
from sciembed_train.inputs import InputFormat


def recipe_settings(paths: Sequence[str | Path]) -> dict[str, Any]:
    """What recipes say of preparing: of ``data`` the mining, of ``model.encoder`` the texts.

    Returns:
        Arguments for `PrepareSettings`; later files stand above earlier ones.

    Raises:
        UserError: a file cannot be read, is no YAML, or names an unknown mining option.
    """
    import yaml

    found: dict[str, Any] = {}
    for path in map(Path, paths):
        try:
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        if not isinstance(recipe, dict):
            raise UserError(f"{path} is no recipe: expected sections such as data and model.")
        data, model = _arguments(recipe.get("data")), _arguments(recipe.get("model"))
        for name in ("dev_share", "test_share", "seed", "memory", "max_bad_rows", "threads"):
            if data.get(name) is not None:
                found[name] = data[name]
        for name in ("papers", "citations", "pairs", "dev_ids", "test_ids"):
            if data.get(name) is not None:
                found[name] = data[name]
        for section, kind, values in (
            ("data.triplets", TripletMining, _arguments(data.get("triplets"))),
            ("model.encoder.form", InputFormat, _encoder(model).get("form") or {}),
        ):
            known = {f.name for f in dataclasses.fields(kind)}
            unknown = sorted(set(values) - known)
            if unknown:
                raise UserError(
                    f"{path}: {section} has the unknown key {unknown[0]!r}; "
                    f"it knows {', '.join(sorted(known))}."
                )
            if values:
                name = "triplets" if kind is TripletMining else "form"
                before = found.get(name) or kind()
                found[name] = _replaced(before, values, f"{path}: {section}")
        backbone = _encoder(model).get("backbone")
        if backbone is not None:
            found["tokenizer"] = backbone
    return found


def _replaced(before: Any, values: Mapping[str, Any], where: str) -> Any:
    for name, value in values.items():
        now = getattr(before, name)
        kind = type(now)
        right = type(value) is kind or (kind is float and type(value) is int)
        if not right:
            raise UserError(
                f"{where}.{name} is {value!r}; expected {kind.__name__}, such as {now!r}."
            )
    return dataclasses.replace(before, **values)


def _arguments(section: Any) -> dict[str, Any]:
    """A section's arguments, whether or not it names its class."""
    if not isinstance(section, dict):
        return {}
    inner = section.get("init_args")
    return inner if isinstance(inner, dict) else section


def _encoder(model: Mapping[str, Any]) -> dict[str, Any]:
    return _arguments(model.get("encoder"))
