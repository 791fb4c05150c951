"""What a recipe says of preparing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sciembed_train.corpus.mining.cocitation_mining import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

SETTINGS: dict[str, tuple[type, ...]] = {
    "dev_share": (int, float),
    "test_share": (int, float),
    "seed": (int,),
    "memory": (str,),
    "max_bad_rows": (int,),
    "threads": (int,),
    "papers": (str,),
    "citations": (str,),
    "pairs": (str,),
    "fulltexts": (str,),
    "contexts": (str,),
    "cocitations": (str,),
    "tasks": (str,),
    "dev_ids": (str,),
    "test_ids": (str,),
    "exclude_ids": (str,),
}


def recipe_settings(paths: Sequence[str | Path]) -> dict[str, Any]:
    """What recipes say of preparing: of ``data`` the mining, of ``model.encoder`` the texts.

    Returns:
        Arguments for `PrepareSettings`; later files stand above earlier ones.

    Raises:
        UserError: a file cannot be read, is no YAML, or names an unknown mining option.
    """
    found: dict[str, Any] = {}
    for path in map(Path, paths):
        recipe = _load(path)
        data, model = _arguments(recipe.get("data")), _arguments(recipe.get("model"))
        for name, kinds in SETTINGS.items():
            value = data.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kinds):
                expected = {int: "an integer", str: "text"}.get(kinds[-1], "a number")
                raise UserError(f"{path}: data.{name} is {value!r}; expected {expected}.")
            found[name] = value
        mined = _arguments(data.get("cocitation_mining"))
        built = _arguments(data.get("task_building"))
        for section, name, kind, values in (
            ("data.triplets", "triplets", TripletMining, _arguments(data.get("triplets"))),
            ("data.cocitation_mining", "cocitation_mining", CocitationMining, mined),
            ("data.task_building", "task_building", TaskBuilding, built),
            (
                "model.encoder.input_format",
                "input_format",
                InputFormat,
                _encoder(model).get("input_format") or {},
            ),
        ):
            known = {f.name for f in dataclasses.fields(kind)}
            unknown = sorted(set(values) - known)
            if unknown:
                raise UserError(
                    f"{path}: {section} has the unknown key {unknown[0]!r}; "
                    f"it knows {', '.join(sorted(known))}."
                )
            if values:
                before = found.get(name) or kind()
                found[name] = _replaced(before, values, f"{path}: {section}")
        backbone = _encoder(model).get("backbone")
        if backbone is not None:
            found["tokenizer"] = backbone
        if (pooling := _encoder(model).get("pooling")) is not None:
            found["sentence_tokens"] = pooling == "sentences"
    return found


def recipe_sections(paths: Sequence[str | Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of ``data`` and of ``model.encoder``; later files stand above earlier ones.

    Raises:
        UserError: a file cannot be read or is no YAML.
    """
    data: dict[str, Any] = {}
    encoder: dict[str, Any] = {}
    for path in map(Path, paths):
        recipe = _load(path)
        data |= _arguments(recipe.get("data"))
        encoder |= _encoder(_arguments(recipe.get("model")))
    return data, encoder


def read_recipe(
    paths: Sequence[str | Path],
) -> tuple[str | None, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The method's class and arguments, those of ``data``, and the trainer's settings.

    Of an encoder named in several files the later arguments stand above the earlier ones.

    Raises:
        UserError: a file cannot be read or is no YAML.
    """
    method: str | None = None
    model: dict[str, Any] = {}
    trainer: dict[str, Any] = {}
    data, encoder = recipe_sections(paths)
    for path in map(Path, paths):
        recipe = _load(path)
        given = recipe.get("model")
        model |= _arguments(given)
        method = given.get("class_path", method) if isinstance(given, dict) else method
        trainer |= recipe.get("trainer") or {}
    return method, {**model, "encoder": encoder}, data, trainer


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise UserError(f"{path} is no recipe: expected sections such as data and model.")
    return recipe


def _replaced(before: Any, values: Mapping[str, Any], where: str) -> Any:
    for name, value in values.items():
        now = getattr(before, name)
        kind = type(now)
        choices = get_args(get_type_hints(type(before))[name])
        if choices and value not in choices:
            expected = ", ".join(map(str, choices))
            raise UserError(f"{where}.{name} is {value!r}; it is one of {expected}.")
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
