"""The command ``completion``: a script that completes commands and options in bash or zsh."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sciembed_train import cli
from sciembed_train.config.options import Option
from sciembed_train.config.parser import CommandLine
from sciembed_train.config.program import INSTALLED

# Options whose value is a file or a folder, though their type is text.
FILES = ("config", "ckpt_path", "data.corpus", "to", "model", "input", "root", "cache")


@dataclass(frozen=True)
class CompletionCommand:
    """For which shell.

    Args:
        shell: bash or zsh.
    """

    shell: Literal["bash", "zsh"]


def command_line() -> CommandLine:
    """The options of ``train completion``."""
    line = CommandLine(
        "completion",
        "Print a script that completes commands and options. Load it with `source <(sciembed-train "
        "completion bash)` in ~/.bashrc, or write it to a file _sciembed-train in a folder of "
        "zsh's $fpath. It completes the installed program sciembed-train.",
        examples=("bash > ~/.sciembed-train.bash", "zsh > ~/.zfunc/_sciembed-train"),
    )
    line.add(CompletionCommand, positionals=("shell",))
    return line


def main(argv: list[str]) -> int:
    """The command ``train completion``."""
    command = command_line().read(argv).get(CompletionCommand)
    import shtab

    print(shtab.complete(all_commands(shtab.FILE), command.shell))
    return 0


def all_commands(complete_files: Any) -> argparse.ArgumentParser:
    """Every command with its options, as shtab reads them.

    Args:
        complete_files: shtab's mark of an option whose value is a file.
    """
    root = argparse.ArgumentParser(prog=INSTALLED, add_help=False)
    commands = root.add_subparsers()
    for name, (module, description) in cli.COMMANDS.items():
        parser = commands.add_parser(name, help=description, add_help=False)
        make = getattr(importlib.import_module(module), "command_line", None)
        for option in make().options() if make is not None else ():
            _add(parser, option, complete_files)
        for word in ("--help", "--help_all"):
            parser.add_argument(word, action="store_true", help="the options")
    return root


def _add(parser: argparse.ArgumentParser, option: Option, complete_files: Any) -> None:
    if not option.names[0].startswith("-"):
        parser.add_argument(option.key, choices=option.choices or None, help=option.help)
        return
    text = option.help.partition(". ")[0].replace("%", "%%")
    action = parser.add_argument(*option.names, choices=option.choices or None, help=text)
    if option.value == "PATH" or option.key in FILES or option.kind is Path:
        action.complete = complete_files  # type: ignore[attr-defined]
