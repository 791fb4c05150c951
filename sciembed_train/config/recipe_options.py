"""The options of a recipe, for every command that takes one: ``-c``, data, model, trainer, run."""

from __future__ import annotations

import importlib
import json
from argparse import ArgumentError
from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import Namespace

from sciembed_train.config import messages
from sciembed_train.config.explicit_keys import ExplicitKeys, explicit_keys
from sciembed_train.config.parser import (
    CommandLine,
    Option,
    Settings,
    build,
    list_options,
    new_parser,
)
from sciembed_train.config.recipes import CONFIG, find_recipe, split_recipes
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.config.stand_ins import NO_METHOD, Method
from sciembed_train.config.trainer_settings import REFUSED, TrainerSettings
from sciembed_train.config.validation_settings import ValidationSettings
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.corpus.prepare_settings import CorpusSettings, PrepareSettings
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.projection_settings import ProjectionSettings
from sciembed_train.sampling.data_settings import DataSettings

# The sections of a recipe whose class it names, and where its arguments stand.
CLASSES = ("model", "data.sampling")
CLEANING = "input_format.cleaning"


class Recipe(Settings):
    """The settings of recipes and of the command line, as `Settings`.

    Attributes:
        explicit: the encoder's settings that the user set, apart from the recipe.
        typed: the whole keys of the options on the command line.
    """

    def __init__(
        self,
        line: CommandLine,
        namespace: Namespace,
        explicit: ExplicitKeys | None = None,
        typed: Collection[str] = (),
    ) -> None:
        super().__init__(line, namespace)
        self.explicit, self.typed = explicit or ExplicitKeys(), frozenset(typed)

    @property
    def files(self) -> list[Path]:
        """The files of the recipes, in their order."""
        return [Path(str(path)) for path in self.namespace.config or ()]

    @property
    def backbone(self) -> str:
        """The encoder's backbone; empty where no recipe and no option names one."""
        return self.namespace.model.init_args.encoder.backbone

    @property
    def encoder(self) -> EncoderSettings:
        """The encoder's settings.

        Raises:
            UserError: a value is out of its range, or there is no backbone.
        """
        return build(EncoderSettings, self.namespace.model.init_args.encoder)


def prepare_settings(
    data: DataSettings, encoder: EncoderSettings | None, **settings: Any
) -> PrepareSettings:
    """What ``prepare`` reads, mines and tokenises for a recipe.

    Args:
        data: the recipe's.
        encoder: gives the tokenizer and the input format; None leaves tokenising out.
        settings: fields of `PrepareSettings`, which override the recipe's.

    Raises:
        UserError: files or settings do not belong together.
    """
    values = {field.name: getattr(data, field.name) for field in fields(CorpusSettings)}
    if encoder is not None:
        values |= {
            "tokenizer": encoder.backbone,
            "input_format": encoder.input_format,
            "sentence_tokens": gives_sentence_vectors(encoder.pooling),
        }
    return PrepareSettings(**{**values, **settings})


class RecipeCommandLine(CommandLine):
    """The command line of a command that takes recipes.

    The command line overrides every recipe, and a later recipe overrides an earlier one.

    Args:
        command: its name.
        description: a sentence or two on what it does.
        trains: whether it needs a method; otherwise a recipe without a method, or no recipe, is
            enough, and the help leaves out the options of training.
        imports_classes: whether it uses the classes that a recipe names. If not, they are
            imported, and torch with them, only where the command line sets an option of theirs.
        settings: as for `CommandLine`.
    """

    def __init__(
        self,
        command: str,
        description: str,
        trains: bool = False,
        imports_classes: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(command, description, **settings)
        if trains:
            self.aliases.setdefault("name", "run")
        self.trains, self.imports_classes = trains, imports_classes
        self.parser.add_argument(
            *CONFIG,
            action="config",
            metavar="RECIPE",
            help="a recipe or machine file, or the name of a shipped one; may be repeated",
        )
        self.add(DataSettings, "data")
        if trains:
            self.parser.add_argument("--model", type=Method, required=True)
        else:
            self.parser.add_argument("--model", type=Method, default={"class_path": NO_METHOD})
        self.add(TrainerSettings, "trainer")
        self.add(RunSettings)
        self.add(ValidationSettings)
        self.add(VerdictSettings)
        self.add(ProjectionSettings, "projection")

    def read(self, argv: Sequence[str]) -> Recipe:
        """As for `CommandLine`."""
        namespace = self.parse(argv)
        files, rest = split_recipes(list(argv))
        paths = [find_recipe(file) for file in files]
        words = super().words(rest)
        typed = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
        explicit = explicit_keys(paths, words)
        if namespace.data.neighbour_mining.reproduce and CLEANING not in explicit.keys:
            # SciNCL read titles and abstracts as they stand.
            namespace.model.init_args.encoder.input_format.cleaning = "none"
            explicit = replace(explicit, keys=explicit.keys | {CLEANING})
        return Recipe(self, namespace, explicit, tuple(typed))

    def parse(self, argv: Sequence[str]) -> Namespace:
        """As for `CommandLine`, the recipes first."""
        argv = list(argv)
        self.print_help_if_asked(argv)
        files, rest = split_recipes(argv)
        paths = [find_recipe(file) for file in files]
        messages.check_files(paths)
        recipe_words = [word for path in paths for word in ("-c", str(path))]
        if self.imports_classes or any(word.startswith("--print_config") for word in rest):
            return self._parse([*recipe_words, *rest])
        try:
            parts = [word for path in paths for word in ("-c", preparing_part(path))]
            namespace = self.parser.parse_args([*parts, *super().words(rest)])
        except ArgumentError:  # an option of the method, or a mistake: parse the whole recipe
            return self._parse([*recipe_words, *rest])
        self._check(namespace, argv)
        return namespace

    def words(self, argv: Sequence[str]) -> list[str]:
        """As for `CommandLine`; presets stand between the recipes and the other words."""
        files, rest = split_recipes(argv)
        return [*(word for file in files for word in ("-c", file)), *super().words(rest)]

    def options(self, argv: Sequence[str] = ()) -> list[Option]:
        """Every option, including those of the method and the sampling that the words name."""
        described = new_parser()
        for key, kind in named_classes(argv).items():
            described.add_class_arguments(kind, key)
        return [*super().options(), *list_options(described, self.aliases)]

    def _check(self, namespace: Namespace, argv: Sequence[str]) -> None:
        """As for `CommandLine`; also refuse a list or null in place of a class's group of settings.

        jsonargparse lets both pass for a dataclass among the arguments of a class.
        """
        for section in CLASSES:
            class_settings = namespace.get(section)
            if not isinstance(class_settings, Namespace) or "init_args" not in class_settings:
                continue
            module, _, name = class_settings.class_path.rpartition(".")
            kinds = get_type_hints(getattr(importlib.import_module(module), name).__init__)
            for key, value in vars(class_settings.init_args).items():
                if is_dataclass(kinds.get(key)) and not isinstance(value, Namespace):
                    full = f"{section}.{key}"
                    origin = messages.location(f'Parser key "{full}"', argv)
                    actual = "null" if value is None else repr(value)
                    raise UserError(
                        f"{origin}{full}: got {actual}; expected its settings one by one, such as "
                        f"--{full}.{next(iter(fields(kinds[key]))).name} VALUE."
                    )
        super()._check(namespace, argv)

    def shown(self, options: Sequence[Option]) -> list[Option]:
        """As for `CommandLine`; options of training only if the command trains."""
        kept = (option for option in options if self.trains or not _trains(option.key))
        return [option for option in kept if option.key != "model"]

    def _message(self, message: str, argv: Sequence[str]) -> str:
        key = messages.unknown_key(message) or ""
        section, _, name = key.rpartition(".")
        if name in REFUSED and section in ("trainer", ""):
            location = messages.location(message, argv)
            return f"{location}trainer.{name} is not used here: {REFUSED[name]}."
        text = super()._message(message, argv)
        if self.trains and not split_recipes(argv)[0]:
            text += " Give a recipe first: -c specter."
        return text


def preparing_part(path: Path) -> str:
    """The part of a recipe that prepares a corpus, as JSON: its data and encoder, no classes."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    data, model = content.get("data"), content.get("model")
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != "sampling"}
    model = model if isinstance(model, dict) else {}
    encoder = (model.get("init_args") or model).get("encoder")
    part = {
        "data": data,
        "model": encoder and {"class_path": NO_METHOD, "init_args": {"encoder": encoder}},
    }
    return json.dumps({key: value for key, value in part.items() if value is not None})


def named_classes(argv: Sequence[str]) -> dict[str, type[Any]]:
    """The classes that recipes and words name, by section; without a method, what all share.

    A class that cannot be imported is left out: parsing refuses it with its reason.
    """
    files, rest = split_recipes(argv)
    paths = dict.fromkeys(CLASSES, "")
    for file in files:
        content = yaml.safe_load(Path(find_recipe(file)).read_text(encoding="utf-8"))
        for section in CLASSES:
            value: Any = content
            for part in section.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            value = value.get("class_path") if isinstance(value, dict) else value
            paths[section] = value if isinstance(value, str) else paths[section]
    for word, following in zip(rest, [*rest[1:], ""], strict=False):
        name, equals, value = word.removeprefix("--").partition("=")
        section = name.removesuffix(".class_path")
        if section in paths:
            paths[section] = value if equals else following
    classes: dict[str, type[Any]] = {"model": Method}
    for section, path in paths.items():
        module, _, name = path.rpartition(".")
        try:
            classes[section] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            continue
    return classes


def _trains(key: str) -> bool:
    """Whether an option concerns only training."""
    settings = (RunSettings, ValidationSettings, VerdictSettings)
    top = {name for kind in settings for name in kind.__dataclass_fields__} - {"quiet"}
    section, _, _ = key.partition(".")
    if section == "model":
        return not key.startswith("model.encoder.")
    return section in ("trainer", "projection", *top) or key in (
        "data.batch_size",
        "data.num_workers",
    )
