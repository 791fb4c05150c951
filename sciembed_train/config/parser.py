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
``--no_NAME``; entries of a mapping one by one, as ``--map KEY=VALUE``.
`recipe_options.RecipeCommandLine` adds ``-c`` and the sections of a recipe.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from textwrap import fill
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_dumper, set_loader

from sciembed_train.config import messages, value_checks
from sciembed_train.config.options import (
    COLUMN,
    WIDTH,
    Option,
    as_word,
    dump_yaml,
    list_options,
    parts,
)
from sciembed_train.config.program import program
from sciembed_train.errors import UserError

T = TypeVar("T")
MODE = "recipe"  # jsonargparse's name for how values are read and written
HELP, HELP_ALL = ("-h", "--help"), "--help_all"


def _load(text: str) -> Any:
    """A value read as YAML; ``None`` is null, as jsonargparse writes a null inside a class."""
    value = get_loader("yaml")(text)
    return None if value == "None" else value


set_loader(MODE, _load, (yaml.YAMLError,))
set_dumper(MODE, dump_yaml)


class Settings:
    """The parsed words of a command line, as the dataclasses that were added to it."""

    def __init__(self, line: CommandLine, namespace: Namespace) -> None:
        self.line, self.namespace = line, namespace
        # All at once: errors are raised before any work begins, not at the first use of a value.
        self.made = {kind: self._make(kind) for kind in line.added}

    def get(self, kind: type[T]) -> T:
        """The settings of a dataclass."""
        return self.made[kind]

    def _make(self, kind: type[Any]) -> Any:
        key = self.line.added[kind]
        if not key:
            left_out = self.line.left_out[kind]
            names = [field.name for field in fields(kind) if field.name not in left_out]
            return build(kind, Namespace({name: self.namespace[name] for name in names}))
        return build(kind, self.namespace[key])


def build(kind: type[T], values: Any) -> T:
    """Parsed values as an object of their type.

    Args:
        kind: a dataclass or another class with typed arguments.
        values: the values of its arguments, as parsed.

    Raises:
        UserError: the class refuses a value.
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
        common: keys of the options that the short help shows, in order; empty for all.
        aliases: short names of full keys, such as ``papers`` for ``data.papers``.
        presets: flags by name, each with the options that it sets: key to value.
        details: lines that the help shows below the description, unwrapped.
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
        self.left_out: dict[type[Any], frozenset[str]] = {}
        self.texts: set[str] = set()

    @property
    def prog(self) -> str:
        """The program and the command."""
        return f"{program()} {self.command}"

    def add(
        self,
        kind: type[Any],
        key: str = "",
        positionals: Sequence[str] = (),
        words: Sequence[str] = (),
        repeated: Sequence[str] = (),
        texts: Sequence[str] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        """Make an option of each field of a dataclass.

        Args:
            kind: the dataclass.
            key: the prefix of each name, such as ``data``.
            positionals: fields that are given by their place, in this order; one that is a list
                takes all words up to the next option.
            words: fields that are lists and take one word or more, as ``--weights 0.3 0.7``.
            repeated: likewise, and may be given more than once: ``--model A --model B C``.
            texts: fields of free text, of any length and with line ends, which are not names.
            left_out: fields that have no option, and keep their defaults.
        """
        self.added[kind], self.left_out[kind] = key, frozenset(left_out)
        self.texts.update(texts)
        title = (kind.__doc__ or "").split("\n")[0].rstrip(".")
        separate = (*positionals, *words, *repeated)
        help_of = _argument_docs(kind) if separate else {}
        hints = get_type_hints(kind) if separate else {}
        known = {field.name: field for field in fields(kind)}
        for name in positionals:
            optional: dict[str, Any] = (
                {"nargs": "?", "default": known[name].default} if _optional(known[name]) else {}
            )
            member = _member(hints[name])
            nargs: dict[str, Any] = {} if member is None else {"nargs": "+"}
            self.parser.add_argument(
                name, type=member or hints[name], help=help_of.get(name, ""), **optional, **nargs
            )
        if key:
            self.parser.add_class_arguments(kind, key, help=title)
            return
        self.parser.add_class_arguments(kind, skip={*separate, *left_out}, help=title or None)
        for name in (*words, *repeated):
            action: dict[str, Any] = {"action": "extend"} if name in repeated else {}
            self.parser.add_argument(
                f"--{name}",
                type=_member(hints[name]),
                nargs="+",
                default=[] if action else known[name].default,
                help=help_of.get(name, ""),
                **action,
            )

    def read(self, argv: Sequence[str]) -> Settings:
        """The settings that the words after the command give.

        Raises:
            UserError: an option is not known, or its value is not of its type or out of its range.
            SystemExit: help was asked for and printed.
        """
        return Settings(self, self.parse(argv))

    def parse(self, argv: Sequence[str]) -> Namespace:
        """As `read`, but as the namespace of jsonargparse."""
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
            namespace = self.parser.parse_args(self.words(argv))
        except ArgumentError as error:
            raise UserError(self._message(str(error), argv)) from error
        self._check(namespace, argv)
        return namespace

    def _check(self, namespace: Namespace, argv: Sequence[str]) -> None:
        """Refuse values that no setting may have."""
        defaults = {action.dest: action.default for action in self.parser._actions}
        values = {
            key: value for key, value in namespace.items() if not value or key not in self.texts
        }
        for key, fault in value_checks.faults(values, defaults):
            short = key.replace("init_args.", "")
            place = messages.location(f'Parser key "{short}"', argv)
            raise UserError(f"{place}{short}: {fault}.")

    def words(self, argv: Sequence[str]) -> list[str]:
        """The words with full keys: no dashes in names, no aliases, no bare flags."""
        flags = {option.key for option in self.options() if option.kind is bool}
        mapping_keys = {option.key for option in self.options() if get_origin(option.kind) is dict}
        preset_words: list[str] = []
        words: list[str] = []
        taken_positions: set[int] = set()
        for position, word in enumerate(argv):
            if position in taken_positions:
                continue
            if not word.startswith("--") or word == "--":
                words.append(word)
                continue
            name, equals, value = word[2:].partition("=")
            key = name.replace("-", "_")
            if key in self.presets:
                preset_words += [f"--{k}={as_word(v)}" for k, v in self.presets[key].items()]
                continue
            negated = key.startswith("no_") and key not in self.aliases
            option_key = self.aliases.get(key.removeprefix("no_") if negated else key)
            option_key = option_key or (key.removeprefix("no_") if negated else key)
            following = argv[position + 1] if position + 1 < len(argv) else ""
            entry = value or following
            if option_key in mapping_keys and re.match(r"\w+=", entry):  # --map title=display_name
                words.append(f"--{option_key}.{entry}")
                taken_positions |= set() if value else {position + 1}
            elif option_key not in flags:
                words.append(f"--{self.aliases.get(key, key)}{equals}{value}")
            elif negated:
                words.append(f"--{option_key}=false")
            elif equals or following.lower() in ("true", "false"):
                words.append(f"--{option_key}{equals}{value}")
            else:
                words.append(f"--{option_key}=true")
        return [*preset_words, *words]

    def options(self, argv: Sequence[str] = ()) -> list[Option]:
        """Every option, including those of the classes that the words name."""
        return list(list_options(self.parser, self.aliases))

    def shown(self, options: Sequence[Option]) -> list[Option]:
        """The options that a help may show."""
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
        groups = list(dict.fromkeys(option.group for option in shown))
        shown = sorted(shown, key=lambda option: groups.index(option.group))
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
        """A parser's message on one line, with the option that was probably meant."""
        words = list(argv)
        text = f"{messages.shorten(message, words).removesuffix('.')}."
        flags = {o.key: f"--{o.key}" for o in self.options(argv) if o.names[0].startswith("-")}
        text = messages.required_as_typed(text, flags)
        key = messages.unknown_key(message)
        meant = self._nearest(key, argv) if key else None
        return f"{text} Did you mean --{meant}?" if meant else text

    def _nearest(self, key: str, argv: Sequence[str]) -> str | None:
        """The option whose last part equals or resembles that of an unknown key; else None."""
        keys = [option.key for option in self.options(argv)]
        if key in keys:
            return None
        last = key.rpartition(".")[2]
        by_name: dict[str, list[str]] = {}
        for known in keys:
            by_name.setdefault(known.rpartition(".")[2], []).append(known)
        matches = [last] if last in by_name else difflib.get_close_matches(last, by_name, n=1)
        if not matches:
            return None
        # Of several options with that name, the one whose full key is most similar.
        return max(by_name[matches[0]], key=lambda k: difflib.SequenceMatcher(None, k, key).ratio())


def new_parser() -> ArgumentParser:
    """A parser that raises its errors, refuses abbreviated keys and prints no help itself."""
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False, parser_mode=MODE)


def _underscored(word: str) -> str:
    return "--" + word[2:].replace("-", "_") if word.startswith("--") else word


def _optional(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is not MISSING


def _member(kind: Any) -> Any:
    """The type of a list's members, also where the list may be None; None for other types."""
    return next((get_args(part)[0] for part in parts(kind) if get_origin(part) is list), None)


def _argument_docs(kind: type[Any]) -> dict[str, str]:
    import docstring_parser

    docs = docstring_parser.parse(kind.__doc__ or "")
    return {entry.arg_name: entry.description or "" for entry in docs.params}
