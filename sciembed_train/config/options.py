"""An option of a command, and how a help shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace

WIDTH = 96
COLUMN = 30  # where the text of an option begins


def dump_yaml(value: Any) -> str:
    """A value as YAML, in the order of its keys."""
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True)


@dataclass(frozen=True)
class Option:
    """An option of a command, for help, suggestions and shell completion.

    Args:
        key: its whole name, such as ``data.papers``; empty for a positional argument's metavar.
        names: every way to write it, with leading dashes.
        kind: its type.
        default: its value where the option is absent; None for none.
        required: whether it must be given.
        help: what it does.
        group: the title it stands under in the help of all options.
        metavar: placeholder of its value, if there is one.
    """

    key: str
    names: tuple[str, ...]
    kind: Any
    default: Any
    required: bool
    help: str
    group: str
    metavar: str | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it takes, if they are a fixed set; else empty."""
        literal = (value for part in parts(self.kind) for value in _literals(part))
        return ("true", "false") if self.kind is bool else tuple(map(str, literal))

    @property
    def value(self) -> str:
        """Placeholder of its value in the help."""
        kinds = parts(self.kind)
        if self.metavar is not None:
            return self.metavar
        if not self.names[0].startswith("-"):  # a positional: its name is the placeholder
            return ""
        if self.kind is bool:
            return ""
        if self.choices and all(get_origin(kind) is not None for kind in kinds):
            return "|".join(self.choices)
        for kind, name in ((Path, "PATH"), (float, "X"), (int, "N")):
            if kind in kinds:
                return name
        return self.key.rpartition(".")[2].upper()

    def text(self, short: bool = False) -> str:
        """Its lines in a help; with only its shortest name if ``short``, else with every name."""
        long_names = [name for name in self.names if name.startswith("--")] or list(self.names)
        names = (
            [*self.names[:-1], min(long_names, key=len)]
            if self.names[0][:2] != "--"
            else long_names[:1]
        )
        head = f"  {', '.join(names if short else self.names)} {self.value}".rstrip()
        no_default = self.default is None or self.default is False or self.default in ("", [], {})
        remarks = [] if no_default else [f"default {as_word(self.default)}"]
        remarks = ["required"] if self.required else remarks
        text = " ".join([self.help, *(f"({end})" for end in remarks)]).strip()
        lines = wrap(text, WIDTH - COLUMN)
        first = lines.pop(0) if lines and len(head) < COLUMN - 1 else ""
        shown = [f"{head:<{COLUMN}}{first}".rstrip()]
        return "\n".join([*shown, *(" " * COLUMN + line for line in lines)])


def list_options(parser: ArgumentParser, aliases: Mapping[str, str]) -> Iterator[Option]:
    """The options of a parser, group by group."""
    aliases_by_key: dict[str, list[str]] = {}
    for name, key in aliases.items():
        aliases_by_key.setdefault(key, []).append(f"--{name}")
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.help == "==SUPPRESS==":
                continue
            if action.metavar == "CONFIG":  # the whole of a group as a file
                continue
            names = [
                *aliases_by_key.get(action.dest, ()),
                *(action.option_strings or (action.dest.upper(),)),
            ]
            names.sort(key=len)  # the short help shows the first
            title = (group.title or "options").strip()
            title = "options" if title == "positional arguments" else title
            title = "recipes" if action.dest == "config" else title
            kind = getattr(action, "_typehint", None) or action.type
            help_text = " ".join((action.help or "").replace("``", "").split())
            default = None if action.default == "==SUPPRESS==" else action.default
            key, metavar = action.dest, "RECIPE" if action.dest == "config" else None
            if names == ["--print_config"]:
                key, metavar, title = "print_config", "", "recipes"
                help_text = "print the settings as a recipe, and stop"
            required = bool(action.required)
            yield Option(key, tuple(names), kind, default, required, help_text, title, metavar)


def as_word(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, list):
        return yaml.safe_dump(
            value, default_flow_style=True, allow_unicode=True, width=10**6
        ).strip()
    return str(value)


def parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union without None; any other type by itself."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(part for part in get_args(kind) if part is not type(None))
    return (kind,)


def _literals(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
