"""The command line of a command: options from dataclasses, help, and messages.

Every setting is a field of a frozen dataclass: its type is the option's type, its docstring (an
entry of ``Args``) the help, its default the default, and ``__post_init__`` holds the range::

    @dataclass(frozen=True)
    class EmbedCommand:
        '''Vectors of a file of papers.

        Args:
            model: a model folder.
            batch_tokens: tokens of a forward pass.
        '''

        model: str
        batch_tokens: int = 8192

    def command_line() -> CommandLine:
        line = CommandLine("embed", "Vectors of a file of papers.", examples=(
            "--model allenai/specter --batch_tokens 4096",
        ))
        line.add(EmbedCommand)
        return line

    def main(argv: list[str]) -> int:
        options = command_line().read(argv).get(EmbedCommand)

Several dataclasses may be added; `CommandLine.add` puts the fields of one below a key
(``--data.papers``) or at the top (``--papers``). A field without a default is required. Options are
written with dashes or underscores, a boolean one alone, with ``true`` or ``false``, or as
``--no_NAME``. `recipe_options.RecipeCommandLine` adds ``-c`` and the sections of a recipe.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import fill, wrap
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_dumper, set_loader

from sciembed_train.config import messages
from sciembed_train.config.program import program
from sciembed_train.errors import UserError

T = TypeVar("T")
MODE = "recipe"  # jsonargparse's name for how values are read and written
WIDTH = 96
COLUMN = 30  # where the text of an option begins
HELP, HELP_ALL = ("-h", "--help"), "--help_all"


def _load(text: str) -> Any:
    """A value as YAML; ``None`` is null, for so jsonargparse hands on a null inside a class."""
    value = get_loader("yaml")(text)
    return None if value == "None" else value


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True)


set_loader(MODE, _load, (yaml.YAMLError,))
set_dumper(MODE, _dump)


@dataclass(frozen=True)
class Option:
    """An option of a command, for help, suggestions and shell completion.

    Args:
        key: its whole name, such as ``data.papers``; empty for a positional argument's metavar.
        names: every way to write it, with dashes before.
        kind: its type.
        default: in the absence of the option; None for none.
        required: whether it must be given.
        help: what it does.
        group: the title it stands under in the help of all options.
        metavar: what stands for its value, if anything does.
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
        """The values that it takes, where they are few."""
        literal = (value for part in _parts(self.kind) for value in _literals(part))
        return ("true", "false") if self.kind is bool else tuple(map(str, literal))

    @property
    def value(self) -> str:
        """What stands for its value in the help."""
        kinds = _parts(self.kind)
        if self.metavar is not None:
            return self.metavar
        if not self.names[0].startswith("-"):  # its name stands for its value
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
        """Its lines in a help; with its shortest name alone, or with all."""
        whole = [name for name in self.names if name.startswith("--")] or list(self.names)
        names = [*self.names[:-1], min(whole, key=len)] if self.names[0][:2] != "--" else whole[:1]
        head = f"  {', '.join(names if short else self.names)} {self.value}".rstrip()
        none = self.default is None or self.default is False or self.default in ("", [], {})
        ends = [] if none else [f"default {_plain(self.default)}"]
        ends = ["required"] if self.required else ends
        text = " ".join([self.help, *(f"({end})" for end in ends)]).strip()
        lines = wrap(text, WIDTH - COLUMN)
        first = lines.pop(0) if lines and len(head) < COLUMN - 1 else ""
        shown = [f"{head:<{COLUMN}}{first}".rstrip()]
        return "\n".join([*shown, *(" " * COLUMN + line for line in lines)])


class Settings:
    """The parsed words of a command line, as the dataclasses that were added to it."""

    def __init__(self, line: CommandLine, namespace: Namespace) -> None:
        self.line, self.namespace = line, namespace

    def get(self, kind: type[T]) -> T:
        """The settings of a dataclass.

        Raises:
            UserError: a value is out of its range.
        """
        key = self.line.added[kind]
        if not key:
            names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
            return build(kind, Namespace({name: self.namespace[name] for name in names}))
        return build(kind, self.namespace[key])


def build(kind: type[T], values: Any) -> T:
    """Parsed values as an object of their type.

    Args:
        kind: a dataclass or another class with typed arguments.
        values: of its arguments, as parsed.

    Raises:
        UserError: it refuses a value.
    """
    parser = ArgumentParser(exit_on_error=False, parser_mode=MODE)
    parser.add_argument("--value", type=kind)
    try:
        return parser.instantiate(Namespace(value=values)).value
    except (ValueError, TypeError) as error:
        message = messages.own_message(error)
        if message is None:
            raise
        raise UserError(message) from error


class CommandLine:
    """The options of a command.

    Args:
        command: its name.
        description: a sentence or two on what it does.
        examples: command lines without program and command, shown at the end of the help.
        common: keys of the options of the short help, in their order; all where there are none.
        aliases: short names of whole keys, such as ``papers`` of ``data.papers``.
        presets: flags that stand for other options, by their names: key to value.
        details: lines that the help shows below the description as they are.
    """

    def __init__(
        self,
        command: str,
        description: str,
        examples: Sequence[str] = (),
        common: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        details: Sequence[str] = (),
    ) -> None:
        self.command, self.description, self.examples = command, description, examples
        self.details = details
        self.common, self.aliases, self.presets = common, dict(aliases or {}), dict(presets or {})
        self.parser = new_parser()
        self.added: dict[type[Any], str] = {}

    @property
    def prog(self) -> str:
        """The program and the command."""
        return f"{program()} {self.command}"

    def add(self, kind: type[Any], key: str = "", positionals: Sequence[str] = ()) -> None:
        """Make an option of each field of a dataclass.

        Args:
            kind: the dataclass.
            key: what stands before each name, such as ``data``.
            positionals: fields that are given by their place, in this order.
        """
        self.added[kind] = key
        title = (kind.__doc__ or "").split("\n")[0].rstrip(".")
        help_of = {} if not positionals else _argument_docs(kind)
        hints = get_type_hints(kind) if positionals else {}
        known = {field.name: field for field in fields(kind)}
        for name in positionals:
            optional = (
                {"nargs": "?", "default": known[name].default} if _optional(known[name]) else {}
            )
            self.parser.add_argument(name, type=hints[name], help=help_of.get(name, ""), **optional)
        if key:
            self.parser.add_class_arguments(kind, key, help=title)
            return
        self.parser.add_class_arguments(kind, skip=set(positionals), help=title or None)

    def read(self, argv: Sequence[str]) -> Settings:
        """The settings that the words after the command give.

        Raises:
            UserError: an option is not known, or its value is not of its type.
            SystemExit: help was asked for and printed.
        """
        return Settings(self, self.parse(argv))

    def parse(self, argv: Sequence[str]) -> Namespace:
        """As `read`, as jsonargparse gives it."""
        argv = list(argv)
        self.print_help_if_asked(argv)
        return self._parse(argv)

    def print_help_if_asked(self, argv: Sequence[str]) -> None:
        """Print the help that the words ask for, and leave with 0."""
        if any(word in HELP for word in argv):
            print(self.help())
        elif any(_underscored(word) == HELP_ALL for word in argv):
            print(self.help(everything=True, argv=argv))
        else:
            return
        raise SystemExit(0)

    def _parse(self, argv: Sequence[str]) -> Namespace:
        from argparse import ArgumentError

        try:
            return self.parser.parse_args(self.words(argv))
        except ArgumentError as error:
            raise UserError(self._message(str(error), argv)) from error

    def words(self, argv: Sequence[str]) -> list[str]:
        """The words with whole keys: no dashes in them, no short names, no bare flags."""
        flags = {option.key for option in self.options() if option.kind is bool}
        before: list[str] = []
        words: list[str] = []
        for place, word in enumerate(argv):
            if not word.startswith("--") or word == "--":
                words.append(word)
                continue
            name, equals, value = word[2:].partition("=")
            key = name.replace("-", "_")
            if key in self.presets:
                before += [f"--{k}={_plain(v)}" for k, v in self.presets[key].items()]
                continue
            off = key.startswith("no_") and key not in self.aliases
            plain = self.aliases.get(key.removeprefix("no_") if off else key)
            plain = plain or (key.removeprefix("no_") if off else key)
            following = argv[place + 1] if place + 1 < len(argv) else ""
            if plain not in flags:
                words.append(f"--{self.aliases.get(key, key)}{equals}{value}")
            elif off:
                words.append(f"--{plain}=false")
            elif equals or following.lower() in ("true", "false"):
                words.append(f"--{plain}{equals}{value}")
            else:
                words.append(f"--{plain}=true")
        return [*before, *words]

    def options(self, argv: Sequence[str] = ()) -> list[Option]:
        """Every option, those of the classes that the words name among them."""
        return list(list_options(self.parser, self.aliases))

    def shown(self, options: Sequence[Option]) -> list[Option]:
        """Those of the options that the help of all of them shows."""
        return list(options)

    def help(self, everything: bool = False, argv: Sequence[str] = ()) -> str:
        """The text of ``--help``, or of ``--help_all``.

        Args:
            everything: all options instead of the common ones.
            argv: the words, for the options of the classes that they name.
        """
        options = self.shown(self.options(argv if everything else ()))
        known = {option.key: option for option in options}
        positional = [option for option in options if not option.names[0].startswith("-")]
        lines = [f"usage: {' '.join([self.prog, *(o.names[0] for o in positional)])} [OPTIONS]"]
        lines += ["", fill(self.description, WIDTH)]
        lines += ["", *self.details] if self.details else []
        shown = options if everything or not self.common else [known[key] for key in self.common]
        title = None
        for option in shown:
            if option.group != title:
                title = option.group
                lines += ["", f"{title}:"]
            lines.append(option.text(short=not everything))
        lines += ["", "other:", f"  {', '.join(HELP):<{COLUMN - 2}}the most used options"]
        lines.append(f"  {HELP_ALL:<{COLUMN - 2}}every option")
        if self.examples:
            lines += [
                "",
                "examples:",
                *(f"  {self.prog} {words}".rstrip() for words in self.examples),
            ]
        return "\n".join(lines)

    def _message(self, message: str, argv: Sequence[str]) -> str:
        """A parser's message on one line, and the option that was meant."""
        words = list(argv)
        text = f"{messages.shorten(message, words).removesuffix('.')}."
        key = messages.unknown_key(message)
        meant = self._nearest(key, argv) if key else None
        return f"{text} Did you mean --{meant}?" if meant else text

    def _nearest(self, key: str, argv: Sequence[str]) -> str | None:
        """The option whose last word is that of a key, or nearly."""
        keys = [option.key for option in self.options(argv)]
        if key in keys:
            return None
        last = key.rpartition(".")[2]
        by_name: dict[str, list[str]] = {}
        for known in keys:
            by_name.setdefault(known.rpartition(".")[2], []).append(known)
        near = [last] if last in by_name else difflib.get_close_matches(last, by_name, n=1)
        if not near:
            return None
        # Of several with the name the one whose place is most like the key's.
        return max(by_name[near[0]], key=lambda k: difflib.SequenceMatcher(None, k, key).ratio())


def new_parser() -> ArgumentParser:
    """A parser that raises its errors, takes no beginnings of keys, and prints no help itself."""
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False, parser_mode=MODE)


def list_options(parser: ArgumentParser, aliases: Mapping[str, str]) -> Iterator[Option]:
    """The options of a parser, group by group."""
    short: dict[str, list[str]] = {}
    for name, key in aliases.items():
        short.setdefault(key, []).append(f"--{name}")
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.help == "==SUPPRESS==":
                continue
            if action.metavar == "CONFIG":  # the whole of a group as a file
                continue
            names = [
                *short.get(action.dest, ()),
                *(action.option_strings or (action.dest.upper(),)),
            ]
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


def _underscored(word: str) -> str:
    return "--" + word[2:].replace("-", "_") if word.startswith("--") else word


def _plain(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Namespace):
        value = value.as_dict()
    return (
        _dump(value).strip().removesuffix("...").strip() if isinstance(value, list) else str(value)
    )


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union other than None; a type alone as it is."""
    from types import UnionType
    from typing import Union

    if get_origin(kind) in (Union, UnionType):
        return tuple(part for part in get_args(kind) if part is not type(None))
    return (kind,)


def _literals(kind: Any) -> tuple[Any, ...]:
    from typing import Literal

    return get_args(kind) if get_origin(kind) is Literal else ()


def _optional(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is not MISSING


def _argument_docs(kind: type[Any]) -> dict[str, str]:
    import docstring_parser

    docs = docstring_parser.parse(kind.__doc__ or "")
    return {entry.arg_name: entry.description or "" for entry in docs.params}
